-- What tables have gained since they were first released, for those that were made before. A new table has it
-- from tables.sql, in the same order. Nothing here is ever taken out.

ALTER TABLE events ADD COLUMN IF NOT EXISTS channel LowCardinality(String) COMMENT 'What brought the visitor: direct, organic_search, paid_search, organic_social, paid_social, email, referral, …; empty if the event says nothing of it' AFTER internal;
ALTER TABLE events ADD COLUMN IF NOT EXISTS click_id String COMMENT 'Id of the click by the advertising network' AFTER channel;
ALTER TABLE events ADD COLUMN IF NOT EXISTS click_id_type LowCardinality(String) COMMENT 'gclid, fbclid, msclkid, …' AFTER click_id;
ALTER TABLE events ADD COLUMN IF NOT EXISTS device LowCardinality(String) COMMENT 'desktop, mobile, tablet, tv or bot' AFTER click_id_type;
ALTER TABLE events ADD COLUMN IF NOT EXISTS browser LowCardinality(String) AFTER device;
ALTER TABLE events ADD COLUMN IF NOT EXISTS browser_version LowCardinality(String) AFTER browser;
ALTER TABLE events ADD COLUMN IF NOT EXISTS os LowCardinality(String) AFTER browser_version;
ALTER TABLE events ADD COLUMN IF NOT EXISTS os_version LowCardinality(String) AFTER os;
ALTER TABLE events ADD COLUMN IF NOT EXISTS country LowCardinality(String) COMMENT 'ISO 3166-1 alpha-2, where the operator provides a database of places' AFTER os_version;
ALTER TABLE events ADD COLUMN IF NOT EXISTS region LowCardinality(String) COMMENT 'ISO 3166-2 code of the first subdivision, without the country' AFTER country;
ALTER TABLE events ADD COLUMN IF NOT EXISTS city String AFTER region;
ALTER TABLE events ADD COLUMN IF NOT EXISTS bot Bool COMMENT 'A program that is nobody: it moved no segment, score or journey' AFTER city;
