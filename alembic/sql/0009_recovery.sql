-- A database that is not the one that was trusted last, because a backup was restored or a standby promoted, admits
-- nobody until what it forgot is booked again from the carrier's calls (docs/decisions/0018).
ALTER TABLE installation
    -- What the database was when it was trusted last; NULL: no operator has looked yet.
    ADD COLUMN trusted_identity text,
    -- Until then it certainly forgot nothing. It moves on with every beat, and stands still while it recovers.
    ADD COLUMN trusted_at timestamptz,
    -- The token that is also kept outside of PostgreSQL, and the one before it: a restored volume has an older one.
    ADD COLUMN witness uuid,
    ADD COLUMN previous_witness uuid,
    -- Closed since, what must be booked again since, and why.
    ADD COLUMN recovering_since timestamptz,
    ADD COLUMN recovering_from timestamptz,
    ADD COLUMN recovery_reason text,
    -- Complete readings of all the carrier's lists so far, when the last one ended, and why the last one was not complete.
    ADD COLUMN recovery_passes smallint NOT NULL DEFAULT 0,
    ADD COLUMN recovery_pass_at timestamptz,
    ADD COLUMN recovery_problem text,
    ADD CONSTRAINT installation_recovering CHECK ((recovering_since IS NULL) = (recovering_from IS NULL));

-- Which database this is: the server's identifier, its timeline as it writes now, the database's OID. A dump that is
-- restored has another OID, a restored base backup and a promoted standby another timeline. The checkpoint's timeline
-- would say so only at the next checkpoint; the current WAL file's name does at once. In PL/pgSQL, which keeps its plans:
-- every hold asks.
CREATE FUNCTION database_identity() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (pg_control_system()).system_identifier || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
        || '/' || (SELECT oid FROM pg_database WHERE datname = current_database());
END $$;

-- True when nobody may be admitted, whoever asks: stopped by hand, being rebuilt, or not the database that was trusted.
CREATE FUNCTION admission_closed() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT stopped OR recovering_since IS NOT NULL OR COALESCE(trusted_identity <> database_identity(), false)
            FROM installation WHERE id = 1);
END $$;

CREATE OR REPLACE FUNCTION gate(p_contact uuid, p_account_sid text) RETURNS TABLE (reason text) LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN (SELECT admission_closed()) THEN 'Stopped'
        WHEN EXISTS (SELECT 1 FROM contacts WHERE id = p_contact AND erased_at IS NOT NULL) THEN 'DoNotCall'
        WHEN NOT EXISTS (SELECT 1 FROM consents WHERE contact_id = p_contact AND revoked_at IS NULL
                         AND given_at <= clock_timestamp()) THEN 'NoConsent'
        -- Unknown accounts count as real: the gate fails closed.
        WHEN NOT COALESCE((SELECT simulated FROM carrier_accounts WHERE account_sid = p_account_sid), false)
             AND NOT EXISTS (SELECT 1 FROM dial_allowlist JOIN contacts c USING (number_hash) WHERE c.id = p_contact)
            THEN 'DoNotCall'
        END;
$$;

-- While it recovers a grant is not taken back: it may have been dialled, and its call is still to be found.
CREATE OR REPLACE FUNCTION ledger_revoke(p_epoch bigint, p_attempt uuid, p_reason text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_state text;
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    SELECT state INTO v_state FROM dial_attempts WHERE id = p_attempt FOR UPDATE;
    IF v_state = 'granted' AND NOT EXISTS (SELECT 1 FROM installation WHERE recovering_since IS NOT NULL) THEN
        PERFORM ledger_release(p_attempt, p_reason);
        RETURN 'revoked';
    END IF;
    RETURN COALESCE(v_state, 'unknown');
END $$;

-- The leader's sign of life: a new token. False where the database has another one than the leader gave it.
CREATE FUNCTION recovery_beat(p_epoch bigint, p_known uuid, p_new uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    UPDATE installation SET previous_witness = witness, witness = p_new,
        trusted_identity = COALESCE(trusted_identity, database_identity()),
        trusted_at = CASE WHEN recovering_since IS NULL THEN clock_timestamp() ELSE trusted_at END
        WHERE id = 1 AND witness IS NOT DISTINCT FROM p_known
            AND COALESCE(trusted_identity = database_identity(), true);
    RETURN FOUND;
END $$;

-- Closes admission, and says since when the carrier's calls are to be booked again: since the database was trusted
-- last, where nobody ever did since its last grant, for an empty one since `p_since`; a minute less, since the carrier's
-- clock may be slow. The epoch passes the one that was known outside, so that no older leader comes back to power.
CREATE FUNCTION recovery_close(p_epoch bigint, p_reason text, p_since timestamptz, p_epoch_outside bigint)
RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    v_before installation%ROWTYPE;
    v_from timestamptz;
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    -- Every hold that was begun is over before the close is seen, and none comes after it.
    PERFORM pg_advisory_xact_lock(ledger_epoch_lock());
    SELECT * INTO v_before FROM installation WHERE id = 1 FOR UPDATE;
    v_from := COALESCE(v_before.recovering_from, COALESCE(v_before.trusted_at,
        (SELECT max(granted_at) FROM dial_attempts), p_since, clock_timestamp() - interval '7 days') - interval '1 minute');
    UPDATE installation SET recovering_since = clock_timestamp(), recovering_from = v_from, recovery_reason = p_reason,
        recovery_passes = 0, recovery_pass_at = NULL, recovery_problem = NULL,
        trusted_identity = database_identity(), witness = gen_random_uuid(), previous_witness = NULL,
        epoch = GREATEST(epoch, p_epoch_outside) WHERE id = 1;
    INSERT INTO audit_log (actor, action, subject, reason, before, after) VALUES ('callfleet-operator',
        'recovery.close', 'installation', p_reason,
        jsonb_build_object('identity', v_before.trusted_identity, 'trusted_at', v_before.trusted_at),
        jsonb_build_object('identity', database_identity(), 'recovering_from', v_from));
    RETURN v_from;
END $$;

-- A reading of all lists ended: with a problem it counts for nothing, and what was found makes another one necessary.
CREATE FUNCTION recovery_passed(p_epoch bigint, p_found integer, p_problem text) RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
    v_passes smallint;
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    UPDATE installation SET recovery_pass_at = clock_timestamp(), recovery_problem = p_problem,
        recovery_passes = CASE WHEN p_problem IS NOT NULL THEN 0 WHEN p_found > 0 THEN 1 ELSE recovery_passes + 1 END
        WHERE id = 1 AND recovering_since IS NOT NULL RETURNING recovery_passes INTO v_passes;
    RETURN v_passes;
END $$;

CREATE FUNCTION recovery_end(p_actor text, p_action text, p_reason text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_before installation%ROWTYPE;
BEGIN
    SELECT * INTO v_before FROM installation WHERE id = 1 FOR UPDATE;
    IF v_before.recovering_since IS NULL OR v_before.trusted_identity <> database_identity() THEN
        RETURN false;
    END IF;
    UPDATE installation SET recovering_since = NULL, recovering_from = NULL, recovery_reason = NULL,
        recovery_passes = 0, recovery_pass_at = NULL, recovery_problem = NULL, trusted_at = clock_timestamp() WHERE id = 1;
    INSERT INTO audit_log (actor, action, subject, reason, before, after) VALUES (p_actor, p_action, 'installation',
        p_reason, jsonb_build_object('recovering_since', v_before.recovering_since,
            'recovering_from', v_before.recovering_from, 'passes', v_before.recovery_passes,
            'problem', v_before.recovery_problem), '{}');
    RETURN true;
END $$;

-- Opens admission once the lists were read completely, and once more without anything new.
CREATE FUNCTION recovery_open(p_epoch bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    RETURN (SELECT recovery_passes >= 2 FROM installation WHERE id = 1)
        AND recovery_end('callfleet-operator', 'recovery.open', 'the carrier''s lists were read completely, twice');
END $$;

-- A person opens it, whatever was read; false where it is not closed.
CREATE FUNCTION recovery_open_by_hand(p_actor text, p_reason text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT recovery_end(p_actor, 'recovery.open', p_reason);
$$;

CREATE VIEW recovery_overview AS
    SELECT recovering_since, recovering_from, recovery_reason, recovery_passes, recovery_pass_at, recovery_problem,
        trusted_at, trusted_identity <> database_identity() AS is_another FROM installation;

REVOKE EXECUTE ON FUNCTION database_identity(), admission_closed(), recovery_beat(bigint, uuid, uuid),
    recovery_close(bigint, text, timestamptz, bigint), recovery_passed(bigint, integer, text),
    recovery_end(text, text, text), recovery_open(bigint), recovery_open_by_hand(text, text) FROM PUBLIC;
GRANT SELECT ON recovery_overview TO callfleet_auditor;
GRANT EXECUTE ON FUNCTION recovery_open_by_hand(text, text), database_identity() TO callfleet_auditor;
