-- Contact lists that campaigns name (spec.contacts.listRef), imported by `callfleet contacts import`.

-- A list is replaced whole: a new row with a new version, never a changed one. Versions of all lists are of one
-- sequence, so that a list that is deleted and imported again has a version that no campaign has seen.
CREATE TABLE contact_lists (
    version bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    namespace text NOT NULL,
    name text NOT NULL,
    contacts integer NOT NULL CHECK (contacts > 0),
    imported_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX contact_lists_name ON contact_lists (namespace, name);

-- Who is on a list; what they agreed to is in consents, with the list as its origin.
CREATE TABLE contact_list_entries (
    version bigint NOT NULL REFERENCES contact_lists (version) ON DELETE CASCADE,
    position integer NOT NULL,
    contact_id uuid NOT NULL REFERENCES contacts (id),
    PRIMARY KEY (version, position)
);
CREATE UNIQUE INDEX contact_list_entries_contact ON contact_list_entries (version, contact_id);

-- The version of its list that a run has wholly taken over; a run whose contacts come from elsewhere has no row.
CREATE TABLE campaign_run_lists (
    namespace text NOT NULL,
    campaign text NOT NULL,
    run_id text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (namespace, campaign, run_id)
);

-- A session's name follows from its campaign, run and contact, and is computed where it is needed: so a run is
-- loaded from a list without anything leaving the database.
ALTER TABLE campaign_contacts DROP COLUMN session_name;
CREATE INDEX campaign_contacts_due ON campaign_contacts (namespace, campaign, run_id, position)
    WHERE finished_at IS NULL;
CREATE INDEX dial_attempts_run ON dial_attempts (namespace, campaign, run_id, contact_id);
CREATE INDEX consents_origin ON consents (origin) WHERE revoked_at IS NULL;

-- Whoever hashes numbers with another key than the first one did would take everybody for somebody new.
ALTER TABLE installation ADD COLUMN hash_key_check text;
