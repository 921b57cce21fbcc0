-- Five questions to the events of PostHog, for polars in Python. The events first, the newest file in front:
--   files = sorted(glob.glob("output/events/**/*.parquet", recursive=True), key=os.path.basename, reverse=True)
--   events = polars.scan_parquet(files, hive_partitioning=False, missing_columns="insert", extra_columns="ignore")
--   print(polars.SQLContext(events=events).execute(query, eager=True))

-- How many people came each day?
SELECT CAST(timestamp AS DATE) AS day, COUNT(DISTINCT person_id) AS people
FROM events
GROUP BY day
ORDER BY day;

-- Funnel: of those who saw a page, who signed up within seven days, and who bought something within seven days of that?
WITH saw AS (
    SELECT person_id, MIN(timestamp) AS saw_at FROM events WHERE event = '$pageview' GROUP BY person_id
), later_signed AS (
    SELECT saw.person_id AS person_id, events.timestamp AS at
    FROM saw JOIN events ON saw.person_id = events.person_id
    WHERE event = 'signed up' AND timestamp > saw_at AND timestamp <= saw_at + INTERVAL '7 days'
), signed AS (
    SELECT person_id, MIN(at) AS signed_at FROM later_signed GROUP BY person_id
), bought AS (
    SELECT DISTINCT signed.person_id AS person_id
    FROM signed JOIN events ON signed.person_id = events.person_id
    WHERE event = 'purchase' AND timestamp > signed_at AND timestamp <= signed_at + INTERVAL '7 days'
)
SELECT COUNT(saw.person_id) AS saw, COUNT(signed.person_id) AS signed_up, COUNT(b.person_id) AS bought
FROM saw
LEFT JOIN signed ON saw.person_id = signed.person_id
LEFT JOIN (SELECT person_id, person_id AS bought_id FROM bought) AS b ON saw.person_id = b.person_id;

-- Retention: of those who came first in one week, how many came again in each week after it?
WITH days AS (
    SELECT DISTINCT person_id, CAST(timestamp AS DATE) AS day FROM events
), firsts AS (
    SELECT person_id, MIN(day) AS first_day FROM days GROUP BY person_id
), weeks AS (
    SELECT days.person_id AS person_id, CAST(DATE_TRUNC('week', first_day) AS DATE) AS cohort,
        FLOOR((CAST(day AS INTEGER) - CAST(first_day AS INTEGER)) / 7) AS week
    FROM days JOIN firsts ON days.person_id = firsts.person_id
)
SELECT cohort, CAST(week AS INTEGER) AS week, COUNT(DISTINCT person_id) AS people
FROM weeks
GROUP BY cohort, week
ORDER BY cohort, week;

-- Sessions: how many began each day, and how many events has one?
WITH sessions AS (
    SELECT "$session_id" AS session, MIN(timestamp) AS began, COUNT(*) AS events
    FROM events
    WHERE "$session_id" <> ''
    GROUP BY "$session_id"
)
SELECT CAST(began AS DATE) AS day, COUNT(*) AS sessions, SUM(events) / COUNT(*) AS events_a_session
FROM sessions
GROUP BY day
ORDER BY day;

-- Feature flags in use: how often was each value given, and to how many people?
SELECT "properties_$feature_flag" AS flag, "properties_$feature_flag_response" AS value, COUNT(*) AS calls,
    COUNT(DISTINCT person_id) AS people
FROM events
WHERE event = '$feature_flag_called'
GROUP BY "properties_$feature_flag", "properties_$feature_flag_response"
ORDER BY flag, value;
