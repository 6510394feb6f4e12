-- A call's script is the same for all of a campaign's calls: it is kept once, under the hash of its text, and an
-- attempt names it. Rows are never changed, so that what an attempt was granted with stays what it was.
CREATE TABLE call_scripts (
    digest bytea PRIMARY KEY,
    script text NOT NULL,
    CONSTRAINT call_scripts_named_by_content CHECK (digest = sha256(convert_to(script, 'UTF8')))
);
INSERT INTO call_scripts SELECT DISTINCT sha256(convert_to(script::text, 'UTF8')), script::text FROM dial_attempts;
ALTER TABLE dial_attempts ADD COLUMN script_digest bytea;
UPDATE dial_attempts SET script_digest = sha256(convert_to(script::text, 'UTF8'));
ALTER TABLE dial_attempts ALTER COLUMN script_digest SET NOT NULL, DROP COLUMN script;

-- What each meter of the call may run at most: {meter: [quantity, micros]}. With the attempt, since reading it there costs
-- a hold less than naming a row of another table; {} where nothing was said.
ALTER TABLE dial_attempts ADD COLUMN caps jsonb NOT NULL DEFAULT '{}';

-- What an attempt holds is what its hold's entries say: a second table of the same rows could only disagree.
DO $$
BEGIN
    IF EXISTS (SELECT attempt_id, account_id, amount_micros FROM holds EXCEPT ALL
               SELECT attempt_id, account_id, held_micros FROM ledger_entries WHERE kind = 'hold') THEN
        RAISE EXCEPTION 'holds and their ledger entries differ: stop, and compare the two before you migrate';
    END IF;
END $$;
DROP TABLE holds;
CREATE VIEW holds AS
    SELECT attempt_id, account_id, held_micros AS amount_micros FROM ledger_entries WHERE kind = 'hold';

-- A grant writes as few indexes as it can: it has no SID yet, and an attempt that is open is found by its number.
ALTER TABLE dial_attempts DROP CONSTRAINT dial_attempts_call_sid_key;
CREATE UNIQUE INDEX dial_attempts_call_sid ON dial_attempts (call_sid) WHERE call_sid IS NOT NULL;
DROP INDEX dial_attempts_unsettled;
CREATE INDEX dial_attempts_ended ON dial_attempts (ended_at) WHERE state = 'ended';
CREATE INDEX dial_attempts_late ON dial_attempts (ended_at) WHERE state = 'settled' AND reason = 'LateEvidence';
-- An attempt of a person in a run has its number once; and how often they were tried is asked at every hold.
DROP INDEX dial_attempts_run;
CREATE UNIQUE INDEX dial_attempts_person ON dial_attempts (contact_id, campaign, run_id, number)
    WHERE state <> 'revoked';

-- The gate's question. Without an index of its own, and before the table's first ANALYZE, PostgreSQL reads the whole of
-- consents_origin for each person.
CREATE INDEX consents_valid ON consents (contact_id) WHERE revoked_at IS NULL;

-- A hold names its script, its carrier account and its ledger accounts. It looks each up itself, once a batch
-- (hold_known, ledger_lock_accounts); what a foreign key would add is that they stay, for a sixth of a hold's time.
-- So their registers keep their rows instead.
CREATE FUNCTION register_refuse_loss() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% keeps its rows: the ledger names them', TG_TABLE_NAME;
END $$;
CREATE TRIGGER accounts_stay BEFORE DELETE OR TRUNCATE OR UPDATE OF id ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION register_refuse_loss();
CREATE TRIGGER carrier_accounts_stay BEFORE DELETE OR TRUNCATE OR UPDATE OF account_sid ON carrier_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION register_refuse_loss();
CREATE TRIGGER call_scripts_stay BEFORE DELETE OR TRUNCATE OR UPDATE OF digest ON call_scripts
    FOR EACH STATEMENT EXECUTE FUNCTION register_refuse_loss();
ALTER TABLE dial_attempts DROP CONSTRAINT dial_attempts_account_sid_fkey;
ALTER TABLE ledger_entries DROP CONSTRAINT ledger_entries_account_id_fkey;
