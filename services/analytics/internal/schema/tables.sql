-- The analysts' tables: the product's public interface. Columns that mean the same have the same name in
-- every table; `timestamp` is when it happened, `log_partition` and `log_offset` are where the row came from.
-- Every table keeps the tokens of its latest inserts, so that a batch that is written again after a crash is dropped.

CREATE TABLE IF NOT EXISTS events
(
    tenant             LowCardinality(String) COMMENT 'The legal entity',
    source             LowCardinality(String) COMMENT 'Name of the source whose write key was used',
    message_id         String                 COMMENT 'Unique within the tenant',
    type               LowCardinality(String) COMMENT 'track, identify, page, screen, group or alias',
    name               LowCardinality(String) COMMENT 'Name of the track event, page or screen',
    profile_id         String                 COMMENT 'Profile at the time; current_profile() follows merges',
    anonymous_id       String,
    user_id            String,
    previous_id        String                 COMMENT 'What an alias call replaces',
    group_id           String,
    timestamp          DateTime64(3, 'UTC')   COMMENT 'When it happened, corrected for the clock of the producer',
    original_timestamp DateTime64(3, 'UTC')   COMMENT 'When it happened by the clock of the producer',
    received_at        DateTime64(3, 'UTC')   COMMENT 'When it came in',
    properties         JSON                   COMMENT 'As the producer sent them',
    traits             JSON,
    context            JSON,
    category           LowCardinality(String) COMMENT 'Of a page or screen',
    page_url           String,
    page_path          String,
    page_referrer      String,
    page_title         String,
    campaign_name      LowCardinality(String),
    campaign_source    LowCardinality(String),
    campaign_medium    LowCardinality(String),
    campaign_term      LowCardinality(String),
    campaign_content   LowCardinality(String),
    value              Decimal(18, 6)         COMMENT 'revenue, else value, else total',
    currency           LowCardinality(String),
    historical         Bool                   COMMENT 'Imported or late: moves no journey',
    internal           Bool                   COMMENT 'Written by Sillage itself: an outcome of a send',
    channel            LowCardinality(String) COMMENT 'What brought the visitor: direct, organic_search, paid_search, organic_social, paid_social, email, referral, …; empty if the event says nothing of it',
    click_id           String                 COMMENT 'Id of the click by the advertising network',
    click_id_type      LowCardinality(String) COMMENT 'gclid, fbclid, msclkid, …',
    device             LowCardinality(String) COMMENT 'desktop, mobile, tablet, tv or bot',
    browser            LowCardinality(String),
    browser_version    LowCardinality(String),
    os                 LowCardinality(String),
    os_version         LowCardinality(String),
    country            LowCardinality(String) COMMENT 'ISO 3166-1 alpha-2, where the operator provides a database of places',
    region             LowCardinality(String) COMMENT 'ISO 3166-2 code of the first subdivision, without the country',
    city               String,
    bot                Bool                   COMMENT 'A program that is nobody: it moved no segment, score or journey',
    log_partition      UInt32,
    log_offset         UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, name, timestamp, profile_id)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every event that was stored, once';

CREATE TABLE IF NOT EXISTS memberships
(
    tenant        LowCardinality(String),
    profile_id    String,
    segment       LowCardinality(String),
    version       Int64                  COMMENT 'Of the definition of the segment',
    state         LowCardinality(String) COMMENT 'entered or exited',
    timestamp     DateTime64(3, 'UTC'),
    cause         LowCardinality(String) COMMENT 'event, timer, merge or definition',
    cause_id      String,
    historical    Bool,
    log_partition UInt32,
    log_offset    UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, segment, profile_id, timestamp)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every entry into and exit from a segment';

CREATE TABLE IF NOT EXISTS scores
(
    tenant        LowCardinality(String),
    profile_id    String,
    score         LowCardinality(String),
    version       Int64,
    value         Float64,
    label         LowCardinality(String),
    components    Map(LowCardinality(String), Float64) COMMENT 'What the value is made of',
    timestamp     DateTime64(3, 'UTC'),
    cause         LowCardinality(String),
    cause_id      String,
    historical    Bool,
    removed       Bool                   COMMENT 'The profile was merged away',
    log_partition UInt32,
    log_offset    UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, score, profile_id, timestamp)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every value that a score of a profile had';

CREATE TABLE IF NOT EXISTS journey_steps
(
    tenant        LowCardinality(String),
    profile_id    String,
    journey       LowCardinality(String),
    version       Int64,
    instance_id   String                 COMMENT 'One passage of one person',
    step          LowCardinality(String),
    action        LowCardinality(String) COMMENT 'entered, waiting, passed, timed_out, sent, held, exited or refused',
    branch        LowCardinality(String),
    reason        LowCardinality(String),
    sequence      Int64                  COMMENT 'Order within the passage',
    timestamp     DateTime64(3, 'UTC'),
    log_partition UInt32,
    log_offset    UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, journey, profile_id, timestamp)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every move of a person in a journey';

CREATE TABLE IF NOT EXISTS sends
(
    tenant        LowCardinality(String),
    send_id       String,
    profile_id    String,
    journey       LowCardinality(String),
    version       Int64,
    instance_id   String,
    step          LowCardinality(String),
    channel       LowCardinality(String),
    template      LowCardinality(String),
    category      LowCardinality(String),
    transactional Bool,
    decision      LowCardinality(String) COMMENT 'send, held or holdout',
    reason        LowCardinality(String) COMMENT 'Why it was held',
    arm           LowCardinality(String) COMMENT 'Arm of the split',
    timestamp     DateTime64(3, 'UTC')   COMMENT 'When it was decided',
    log_partition UInt32,
    log_offset    UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, journey, profile_id, timestamp)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every decision on a send, also those not to send';

CREATE TABLE IF NOT EXISTS outcomes
(
    tenant        LowCardinality(String),
    outcome_id    String,
    send_id       String,
    profile_id    String,
    channel       LowCardinality(String),
    type          LowCardinality(String) COMMENT 'delivered, failed, bounced, opened, clicked, unsubscribed or unknown',
    reason        LowCardinality(String),
    url           String,
    machine       Bool                   COMMENT 'A scanner or prefetch did it',
    attempts      Int32,
    journey       LowCardinality(String),
    step          LowCardinality(String),
    template      LowCardinality(String),
    timestamp     DateTime64(3, 'UTC'),
    log_partition UInt32,
    log_offset    UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, send_id, timestamp)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What became of each send, each thing once';

CREATE TABLE IF NOT EXISTS identity_links
(
    tenant          LowCardinality(String),
    profile_id      String,
    action          LowCardinality(String) COMMENT 'linked, merged or refused',
    namespace       LowCardinality(String),
    identifier      String,
    into_profile_id String                 COMMENT 'For a merge, the profile that survives',
    message_id      String                 COMMENT 'The event that caused it',
    source          LowCardinality(String),
    reason          LowCardinality(String),
    timestamp       DateTime64(3, 'UTC'),
    log_partition   UInt32,
    log_offset      UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant, profile_id, timestamp)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Why identifiers are one person, and which profiles were merged';

CREATE TABLE IF NOT EXISTS ledger
(
    tenant LowCardinality(String),
    source LowCardinality(String),
    hour   DateTime('UTC')        COMMENT 'Hour in which the event came in',
    fate   LowCardinality(String) COMMENT 'accepted, stored, deduplicated, rejected or suppressed',
    reason LowCardinality(String),
    events UInt64
)
ENGINE = SummingMergeTree(events)
PARTITION BY toYYYYMM(hour)
ORDER BY (tenant, source, hour, fate, reason)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'accepted = stored + deduplicated + rejected + suppressed, by tenant, source and hour';

CREATE TABLE IF NOT EXISTS plan_violations
(
    tenant        LowCardinality(String),
    source        LowCardinality(String),
    plan          LowCardinality(String),
    version       Int64                         COMMENT 'Of the plan',
    type          LowCardinality(String)        COMMENT 'track, identify, page, screen or group',
    name          String                        COMMENT 'Name of the event',
    message_id    String,
    received_at   DateTime64(3, 'UTC'),
    code          LowCardinality(String)        COMMENT 'unplanned_event or plan_violation',
    action        LowCardinality(String)        COMMENT 'observed, quarantined or rejected',
    paths         Array(String)                 COMMENT 'JSON Pointers to what is wrong, the first few',
    keywords      Array(LowCardinality(String)) COMMENT 'For each path, what of the schema is broken',
    expected      Array(String)                 COMMENT 'For each path, what was planned',
    found         Array(String)                 COMMENT 'For each path, the type or size of what was there',
    sample        String                        COMMENT 'JSON: the names of the properties with their types, or values where the plan allows them',
    log_partition UInt32,
    log_offset    UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (tenant, source, name, received_at)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every event that was not as the tracking plan of its source says';

CREATE TABLE IF NOT EXISTS unreadable_records
(
    topic         LowCardinality(String),
    log_partition UInt32,
    log_offset    UInt64,
    reason        String,
    value         String COMMENT 'The bytes as they are',
    seen_at       DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY (topic, log_partition, log_offset)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Records of topics that could not be decoded';
