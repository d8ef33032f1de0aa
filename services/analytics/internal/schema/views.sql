-- Views for analysts, and for the report of the demonstration. Views with parameters are called like
-- functions: SELECT * FROM attribution(tenant = 'demo', conversion = 'Loan Subscribed', days = 30)

CREATE OR REPLACE VIEW merged_profiles AS
WITH RECURSIVE chain AS
(
    SELECT tenant, profile_id, into_profile_id, 1 AS hops FROM identity_links WHERE action = 'merged'
    UNION ALL
    SELECT c.tenant, c.profile_id, l.into_profile_id, c.hops + 1
    FROM chain AS c
    INNER JOIN identity_links AS l ON l.tenant = c.tenant AND l.profile_id = c.into_profile_id
    WHERE l.action = 'merged' AND c.hops < 64
)
SELECT tenant, profile_id, argMax(into_profile_id, hops) AS current_profile_id
FROM chain
GROUP BY tenant, profile_id
COMMENT 'Each profile that was merged away, with the one that lives';

CREATE OR REPLACE VIEW people AS
SELECT e.* EXCEPT (profile_id), e.profile_id AS profile_id, if(m.current_profile_id = '', e.profile_id, m.current_profile_id) AS person
FROM events AS e
LEFT JOIN merged_profiles AS m ON m.tenant = e.tenant AND m.profile_id = e.profile_id
COMMENT 'Events with `person`: the profile that lives, whatever merges came later';

CREATE OR REPLACE VIEW orders AS
SELECT
    tenant, source, message_id, profile_id, user_id, anonymous_id, timestamp, currency,
    properties.order_id::String AS order_id,
    if(name = 'Order Refunded', -1, 1) AS sign,
    properties.products[].quantity::Array(Float64) AS quantities,
    properties.products[].price::Array(Float64) AS prices,
    length(quantities) AS lines,
    sign * arraySum(arrayMap((q, p) -> q * p, quantities, prices)) AS line_total,
    sign * value AS total
FROM events
WHERE name IN ('Order Completed', 'Order Refunded')
COMMENT 'One row an order; refunds are negative';

CREATE OR REPLACE VIEW segment_sizes AS
SELECT tenant, segment, countIf(state = 'entered') AS profiles, max(changed) AS last_change
FROM
(
    SELECT tenant, segment, profile_id, argMax(state, (log_partition, log_offset)) AS state, max(timestamp) AS changed
    FROM memberships
    GROUP BY tenant, segment, profile_id
)
GROUP BY tenant, segment
COMMENT 'How many profiles are in each segment now';

CREATE OR REPLACE VIEW send_results AS
SELECT
    s.tenant AS tenant, s.journey AS journey, s.step AS step, s.channel AS channel, s.decision AS decision, s.reason AS reason,
    count() AS sends,
    countIf(o.delivered > 0) AS delivered, countIf(o.failed > 0) AS failed, countIf(o.opened > 0) AS opened,
    countIf(o.clicked > 0) AS clicked, countIf(o.unsubscribed > 0) AS unsubscribed
FROM sends AS s
LEFT JOIN
(
    SELECT
        tenant, send_id,
        countIf(type = 'delivered') AS delivered, countIf(type IN ('failed', 'bounced')) AS failed,
        countIf(type = 'opened' AND NOT machine) AS opened, countIf(type = 'clicked' AND NOT machine) AS clicked,
        countIf(type = 'unsubscribed') AS unsubscribed
    FROM outcomes
    GROUP BY tenant, send_id
) AS o ON o.tenant = s.tenant AND o.send_id = s.send_id
GROUP BY tenant, journey, step, channel, decision, reason
COMMENT 'Sends and holds with reasons, and what became of them';

CREATE OR REPLACE VIEW ledger_balance AS
SELECT
    tenant, source, hour,
    sumIf(events, fate = 'accepted') AS accepted, sumIf(events, fate = 'stored') AS stored,
    sumIf(events, fate = 'deduplicated') AS deduplicated, sumIf(events, fate = 'rejected') AS rejected,
    sumIf(events, fate = 'suppressed') AS suppressed,
    toInt64(accepted) - toInt64(stored) - toInt64(deduplicated) - toInt64(rejected) - toInt64(suppressed) AS difference
FROM ledger
GROUP BY tenant, source, hour
COMMENT 'difference is 0 once all that came in has been dealt with';

CREATE OR REPLACE VIEW plan_issues AS
SELECT
    tenant, source, name, issue.1 AS path, issue.2 AS keyword, issue.3 AS planned, issue.4 AS was,
    count() AS events, countIf(action = 'observed') AS observed, countIf(action = 'quarantined') AS quarantined,
    countIf(action = 'rejected') AS rejected, min(received_at) AS first_seen, max(received_at) AS last_seen,
    argMax(message_id, received_at) AS latest_message_id, argMax(sample, received_at) AS latest_sample
FROM
(
    SELECT tenant, source, name, action, received_at, message_id, sample, arrayJoin(arrayZip(paths, keywords, expected, found)) AS issue
    FROM plan_violations
    WHERE code = 'plan_violation'
)
GROUP BY tenant, source, name, issue
COMMENT 'What is wrong with events, each thing once, with how often and the latest sample';

CREATE OR REPLACE VIEW unplanned_events AS
SELECT
    tenant, source, name, count() AS events, min(received_at) AS first_seen, max(received_at) AS last_seen,
    argMax(message_id, received_at) AS latest_message_id, argMax(sample, received_at) AS latest_sample
FROM plan_violations
WHERE code = 'unplanned_event'
GROUP BY tenant, source, name
COMMENT 'Events that no plan lists';

CREATE OR REPLACE VIEW touches AS
SELECT tenant, person, timestamp, channel
FROM
(
    SELECT
        tenant, person, timestamp,
        multiIf(
            name = 'Message Clicked', properties.channel::String,
            name = 'Call Completed', 'telephone',
            name = 'Branch Visited', 'branch',
            campaign_source != '', concat(campaign_source, ' / ', campaign_medium),
            '') AS channel
    FROM people
    WHERE NOT bot
)
WHERE channel != ''
COMMENT 'What may have led to a conversion: campaigns, clicks in messages, calls, branch visits';

CREATE OR REPLACE VIEW attribution AS
WITH
    conversions AS
    (
        SELECT tenant, person, timestamp, toFloat64(value) AS worth
        FROM people
        WHERE tenant = {tenant:String} AND name = {conversion:String} AND NOT historical
    ),
    paths AS
    (
        SELECT c.person AS person, c.timestamp AS at, any(c.worth) AS worth,
            arrayMap(x -> x.2, arraySort(groupArrayIf((t.timestamp, t.channel), t.channel != '' AND t.timestamp <= c.timestamp AND t.timestamp >= c.timestamp - toIntervalDay({days:UInt32})))) AS found,
            if(empty(found), ['direct'], found) AS path
        FROM conversions AS c
        LEFT JOIN (SELECT * FROM touches WHERE tenant = {tenant:String}) AS t ON t.person = c.person
        GROUP BY c.person, c.timestamp
    )
SELECT
    channel,
    sum(is_first) AS first, sum(is_last) AS last, round(sum(share), 2) AS linear,
    round(sum(is_first * worth), 2) AS first_value, round(sum(is_last * worth), 2) AS last_value, round(sum(share * worth), 2) AS linear_value
FROM
(
    SELECT worth, path, touch.1 AS channel, touch.2 = 1 AS is_first, touch.2 = length(path) AS is_last, 1 / length(path) AS share
    FROM paths
    ARRAY JOIN arrayZip(path, arrayEnumerate(path)) AS touch
)
GROUP BY channel
ORDER BY linear DESC, channel
COMMENT 'First, last and linear attribution of a conversion over its touches; each model adds up to the conversions';

CREATE OR REPLACE VIEW holdout_lift AS
WITH
    arms AS
    (
        SELECT
            if(m.current_profile_id = '', s.profile_id, m.current_profile_id) AS person,
            if(max(s.decision = 'holdout'), 'hold-out', 'treated') AS arm,
            min(s.timestamp) AS since
        FROM sends AS s
        LEFT JOIN merged_profiles AS m ON m.tenant = s.tenant AND m.profile_id = s.profile_id
        WHERE s.tenant = {tenant:String} AND s.journey = {journey:String}
        GROUP BY person
    ),
    conversions AS
    (
        SELECT person, max(timestamp) AS converted FROM people
        WHERE tenant = {tenant:String} AND name = {conversion:String} GROUP BY person
    )
SELECT
    a.arm AS arm, count() AS people, countIf(c.converted >= a.since) AS converted,
    round(converted / people, 4) AS rate,
    round((rate + 1.92 / people - 1.96 * sqrt(rate * (1 - rate) / people + 0.9604 / (people * people))) / (1 + 3.8416 / people), 4) AS rate_low,
    round((rate + 1.92 / people + 1.96 * sqrt(rate * (1 - rate) / people + 0.9604 / (people * people))) / (1 + 3.8416 / people), 4) AS rate_high
FROM arms AS a
LEFT JOIN conversions AS c ON c.person = a.person
GROUP BY arm
ORDER BY arm
COMMENT 'Conversions after the decision to send, hold-out against treated (intention to treat), with 95 % Wilson intervals';

CREATE OR REPLACE VIEW journey_funnel AS
WITH
    done AS
    (
        SELECT person, name, min(timestamp) AS first, max(timestamp) AS last
        FROM people
        WHERE tenant = {tenant:String} AND NOT historical
        GROUP BY person, name
    ),
    entries AS
    (
        SELECT if(m.current_profile_id = '', s.profile_id, m.current_profile_id) AS person, min(s.timestamp) AS entered
        FROM memberships AS s
        LEFT JOIN merged_profiles AS m ON m.tenant = s.tenant AND m.profile_id = s.profile_id
        WHERE s.tenant = {tenant:String} AND s.segment = {segment:String} AND s.state = 'entered' AND NOT s.historical
        GROUP BY person
    ),
    sent AS
    (
        SELECT if(m.current_profile_id = '', s.profile_id, m.current_profile_id) AS person, groupArray(s.send_id) AS send_ids
        FROM sends AS s
        LEFT JOIN merged_profiles AS m ON m.tenant = s.tenant AND m.profile_id = s.profile_id
        WHERE s.tenant = {tenant:String} AND s.journey = {journey:String} AND s.decision = 'send'
        GROUP BY person
    ),
    reacted AS
    (
        SELECT s.person AS person, max(o.type = 'opened' AND NOT o.machine) AS opened, max(o.type = 'clicked' AND NOT o.machine) AS clicked
        FROM sent AS s
        ARRAY JOIN s.send_ids AS send_id
        INNER JOIN outcomes AS o ON o.tenant = {tenant:String} AND o.send_id = send_id
        GROUP BY s.person
    )
SELECT step, people, round(people / max(people) OVER (), 4) AS of_all
FROM
(
    SELECT 1 AS number, concat('did: ', {started:String}) AS step, (SELECT uniqExact(person) FROM done WHERE name = {started:String}) AS people
    UNION ALL SELECT 2, concat('entered segment: ', {segment:String}), (SELECT count() FROM entries)
    UNION ALL SELECT 3, 'was contacted', (SELECT count() FROM sent)
    UNION ALL SELECT 4, 'opened', (SELECT countIf(opened) FROM reacted)
    UNION ALL SELECT 5, 'clicked', (SELECT countIf(clicked) FROM reacted)
    UNION ALL SELECT 6, concat('then did: ', {conversion:String}),
        (SELECT count() FROM sent AS s INNER JOIN done AS d ON d.person = s.person INNER JOIN entries AS e ON e.person = s.person WHERE d.name = {conversion:String} AND d.last >= e.entered)
)
ORDER BY number
COMMENT 'From a beginning over a segment and a journey to a conversion: how many people came how far'
