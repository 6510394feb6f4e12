-- Personal data at rest: ciphertexts under each person's own key, which is wrapped by a key of their namespace
-- (core/callfleet_core/crypto.py). The plain columns are renamed, encrypted by the migration, and dropped.
ALTER TABLE contacts RENAME COLUMN phone TO plain_phone;
ALTER TABLE contacts RENAME COLUMN name TO plain_name;
ALTER TABLE contacts ALTER COLUMN plain_phone DROP NOT NULL;
ALTER TABLE contacts
    ADD COLUMN phone bytea,
    ADD COLUMN name bytea,
    -- The beginning of the number, which prices depend on.
    ADD COLUMN dial_prefix text NOT NULL DEFAULT '',
    ADD COLUMN key_version integer,
    ADD COLUMN wrapped_key bytea,
    ADD COLUMN erased_at timestamptz;
ALTER TABLE conversations RENAME COLUMN content TO plain_content;
ALTER TABLE conversations ALTER COLUMN plain_content DROP NOT NULL;
ALTER TABLE conversations ADD COLUMN content bytea;
ALTER TABLE calls RENAME COLUMN recording_url TO plain_recording_url;
ALTER TABLE calls ADD COLUMN recording_url bytea;
