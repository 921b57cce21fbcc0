-- Five questions to the events of PostHog, for ClickHouse: `clickhouse local`, or chdb in Python. The events first:
CREATE VIEW events AS
SELECT * FROM file('output/events/**.parquet', Parquet) SETTINGS schema_inference_mode = 'union', use_hive_partitioning = 0;

-- How many people came each day?
SELECT toDate(timestamp, 'UTC') AS day, uniqExact(person_id) AS people
FROM events
GROUP BY day
ORDER BY day;

-- Funnel: of those who saw a page, who signed up within seven days, and who bought something within seven days of that?
WITH saw AS (
    SELECT person_id, min(timestamp) AS saw_at FROM events WHERE event = '$pageview' GROUP BY person_id
), signed AS (
    SELECT saw.person_id AS person_id, min(e.timestamp) AS signed_at
    FROM saw JOIN events AS e ON e.person_id = saw.person_id
    WHERE e.event = 'signed up' AND e.timestamp > saw_at AND e.timestamp <= saw_at + INTERVAL 7 DAY
    GROUP BY saw.person_id
), bought AS (
    SELECT DISTINCT signed.person_id AS person_id
    FROM signed JOIN events AS e ON e.person_id = signed.person_id
    WHERE e.event = 'purchase' AND e.timestamp > signed_at AND e.timestamp <= signed_at + INTERVAL 7 DAY
)
SELECT (SELECT count() FROM saw) AS saw, (SELECT count() FROM signed) AS signed_up, (SELECT count() FROM bought) AS bought;

-- Retention: of those who came first in one week, how many came again in each week after it?
WITH days AS (
    SELECT DISTINCT person_id, toDate(timestamp, 'UTC') AS day FROM events
), firsts AS (
    SELECT person_id, min(day) AS first_day FROM days GROUP BY person_id
)
SELECT toMonday(first_day) AS cohort, intDiv(day - first_day, 7) AS week, uniqExact(days.person_id) AS people
FROM days JOIN firsts ON firsts.person_id = days.person_id
GROUP BY cohort, week
ORDER BY cohort, week;

-- Sessions: how many began each day, and how many events has one?
WITH sessions AS (
    SELECT `$session_id` AS session, min(timestamp) AS began, count() AS events
    FROM events
    WHERE `$session_id` <> ''
    GROUP BY session
)
SELECT toDate(began, 'UTC') AS day, count() AS sessions, sum(events) / count() AS events_a_session
FROM sessions
GROUP BY day
ORDER BY day;

-- Feature flags in use: how often was each value given, and to how many people?
SELECT `properties_$feature_flag` AS flag, `properties_$feature_flag_response` AS value, count() AS calls,
    uniqExact(person_id) AS people
FROM events
WHERE event = '$feature_flag_called'
GROUP BY flag, value
ORDER BY flag, value;
