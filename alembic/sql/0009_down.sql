-- The release before knows neither recoveries nor their entries. The money stays, as holds; they were judged by no limit,
-- and without one nothing is overspent by them.
ALTER TABLE ledger_entries DISABLE TRIGGER ledger_entries_append_only;
UPDATE ledger_entries SET kind = 'hold', limit_micros = NULL WHERE kind = 'recovery';
ALTER TABLE ledger_entries ENABLE TRIGGER ledger_entries_append_only;
CREATE OR REPLACE VIEW holds AS
    SELECT attempt_id, account_id, held_micros AS amount_micros FROM ledger_entries WHERE kind = 'hold';
ALTER TABLE ledger_entries
    DROP CONSTRAINT ledger_entries_kind_check,
    ADD CONSTRAINT ledger_entries_kind_check CHECK (kind IN ('hold', 'release', 'settle', 'late', 'correction'));
UPDATE carrier_differences SET kind = 'UnknownCall', found = 'lost: ' || found WHERE kind = 'Lost';
ALTER TABLE carrier_differences
    DROP CONSTRAINT carrier_differences_kind_check,
    ADD CONSTRAINT carrier_differences_kind_check CHECK (kind IN ('UnknownCall', 'MissingCall', 'Status', 'Duration',
                                                                  'Price', 'Unpriced', 'Currency'));
DROP FUNCTION ledger_recover(bigint, jsonb);
DROP FUNCTION recovery_close_runs(lost_call);
DROP FUNCTION recovery_post(lost_call, uuid);
DROP FUNCTION recovery_insert(lost_call, uuid, bigint);
DROP FUNCTION recovery_adopt(dial_attempts, lost_call);
DROP FUNCTION recovery_answered(uuid, lost_call);
DROP FUNCTION recovery_match(lost_call);
DROP TYPE lost_call;
DROP INDEX campaign_contacts_unfinished;

CREATE OR REPLACE FUNCTION ledger_revoke(p_epoch bigint, p_attempt uuid, p_reason text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_state text;
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    SELECT state INTO v_state FROM dial_attempts WHERE id = p_attempt FOR UPDATE;
    IF v_state = 'granted' THEN
        PERFORM ledger_release(p_attempt, p_reason);
        RETURN 'revoked';
    END IF;
    RETURN COALESCE(v_state, 'unknown');
END $$;
CREATE OR REPLACE FUNCTION gate(p_contact uuid, p_account_sid text) RETURNS TABLE (reason text) LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN (SELECT stopped FROM installation WHERE id = 1) THEN 'Stopped'
        WHEN EXISTS (SELECT 1 FROM contacts WHERE id = p_contact AND erased_at IS NOT NULL) THEN 'DoNotCall'
        WHEN NOT EXISTS (SELECT 1 FROM consents WHERE contact_id = p_contact AND revoked_at IS NULL
                         AND given_at <= clock_timestamp()) THEN 'NoConsent'
        -- Unknown accounts count as real: the gate fails closed.
        WHEN NOT COALESCE((SELECT simulated FROM carrier_accounts WHERE account_sid = p_account_sid), false)
             AND NOT EXISTS (SELECT 1 FROM dial_allowlist JOIN contacts c USING (number_hash) WHERE c.id = p_contact)
            THEN 'DoNotCall'
        END;
$$;
DROP VIEW recovery_overview;
DROP FUNCTION recovery_open_by_hand(text, text);
DROP FUNCTION recovery_open(bigint);
DROP FUNCTION recovery_end(text, text, text);
DROP FUNCTION recovery_passed(bigint, integer, text);
DROP FUNCTION recovery_close(bigint, text, timestamptz, bigint);
DROP FUNCTION recovery_beat(bigint, uuid, uuid);
DROP FUNCTION admission_closed();
DROP FUNCTION database_identity();
-- A database that is being rebuilt stays closed: the release before knows no other way to say so.
UPDATE installation SET stopped = true WHERE recovering_since IS NOT NULL;
ALTER TABLE installation
    DROP COLUMN trusted_identity, DROP COLUMN trusted_at, DROP COLUMN witness, DROP COLUMN previous_witness,
    DROP COLUMN recovering_since, DROP COLUMN recovering_from, DROP COLUMN recovery_reason,
    DROP COLUMN recovery_passes, DROP COLUMN recovery_pass_at, DROP COLUMN recovery_problem;
