-- Five questions to the events of PostHog, for DuckDB: duckdb -init output/views.sql < integrations/sql/duckdb.sql
-- Write the names of your own events for 'signed up' and 'purchase'. The last question needs the columns of feature flags: a
-- project that never called one has no such columns, and DuckDB then says that they are not found.

-- How many people came each day?
SELECT CAST(timestamp AT TIME ZONE 'UTC' AS DATE) AS day, count(DISTINCT person_id) AS people
FROM events
GROUP BY day
ORDER BY day;

-- Funnel: of those who saw a page, who signed up within seven days, and who bought something within seven days of that?
WITH saw AS (
    SELECT person_id, min(timestamp) AS saw_at FROM events WHERE event = '$pageview' GROUP BY person_id
), signed AS (
    SELECT saw.person_id, min(events.timestamp) AS signed_at
    FROM saw JOIN events ON events.person_id = saw.person_id
    WHERE events.event = 'signed up' AND events.timestamp > saw_at AND events.timestamp <= saw_at + INTERVAL '7 days'
    GROUP BY saw.person_id
), bought AS (
    SELECT DISTINCT signed.person_id
    FROM signed JOIN events ON events.person_id = signed.person_id
    WHERE events.event = 'purchase' AND events.timestamp > signed_at AND events.timestamp <= signed_at + INTERVAL '7 days'
)
SELECT (SELECT count(*) FROM saw) AS saw, (SELECT count(*) FROM signed) AS signed_up, (SELECT count(*) FROM bought) AS bought;

-- Retention: of those who came first in one week, how many came again in each week after it?
WITH days AS (
    SELECT DISTINCT person_id, CAST(timestamp AT TIME ZONE 'UTC' AS DATE) AS day FROM events
), firsts AS (
    SELECT person_id, min(day) AS first_day FROM days GROUP BY person_id
)
SELECT CAST(date_trunc('week', first_day) AS DATE) AS cohort, (day - first_day) // 7 AS week, count(DISTINCT days.person_id) AS people
FROM days JOIN firsts ON firsts.person_id = days.person_id
GROUP BY cohort, week
ORDER BY cohort, week;

-- Sessions: how many began each day, and how many events has one?
WITH sessions AS (
    SELECT "$session_id" AS session, min(timestamp) AS began, count(*) AS events
    FROM events
    WHERE "$session_id" <> ''
    GROUP BY session
)
SELECT CAST(began AT TIME ZONE 'UTC' AS DATE) AS day, count(*) AS sessions, sum(events) / count(*) AS events_a_session
FROM sessions
GROUP BY day
ORDER BY day;

-- Feature flags in use: how often was each value given, and to how many people?
SELECT "properties_$feature_flag" AS flag, "properties_$feature_flag_response" AS value, count(*) AS calls,
    count(DISTINCT person_id) AS people
FROM events
WHERE event = '$feature_flag_called'
GROUP BY flag, value
ORDER BY flag, value;
