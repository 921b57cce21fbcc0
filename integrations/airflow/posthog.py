"""PostHog into Parquet files, every hour. The connection `posthog` holds the key (password) and the project's number (login)."""

import datetime

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    "posthog",
    schedule="17 * * * *",
    start_date=datetime.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": datetime.timedelta(minutes=10)},
):
    BashOperator(
        task_id="read",
        # 75: a limit ended the run early, the next one goes on.
        bash_command="set -euo pipefail; target-parquet run --config=ENV -- tap-posthog --config=ENV --max-runtime 3000 || [ $? -eq 75 ]",
        env={
            "TAP_POSTHOG_API_KEY": "{{ conn.posthog.password }}",
            "TAP_POSTHOG_PROJECT_ID": "{{ conn.posthog.login }}",
            "TARGET_PARQUET_DESTINATION_PATH": "/data/posthog",
        },
        append_env=True,
        execution_timeout=datetime.timedelta(hours=1),
    )
