-- Accounts of campaigns that bring their own: which Secret holds the credentials (NULL: the installation's own), and
-- how many calls the account takes at once.
ALTER TABLE carrier_accounts
    ADD COLUMN max_concurrent integer NOT NULL DEFAULT 10 CHECK (max_concurrent > 0),
    ADD COLUMN source_namespace text,
    ADD COLUMN source_name text,
    ADD CONSTRAINT carrier_accounts_whole_source CHECK ((source_namespace IS NULL) = (source_name IS NULL));
