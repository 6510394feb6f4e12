DROP FUNCTION script(dial_attempts);
DROP FUNCTION ledger_hold(bigint, jsonb);
DROP FUNCTION ledger_post_one_by_one(hold_try[], accounts[]);
DROP FUNCTION ledger_post_holds(hold_try[], accounts[]);
DROP FUNCTION ledger_covers(hold_try[], accounts[]);
DROP FUNCTION ledger_lock_accounts(hold_try[]);
DROP FUNCTION hold_without_called(hold_try[]);
DROP FUNCTION hold_grant(bigint, jsonb);
DROP FUNCTION hold_known(jsonb);
DROP TYPE hold_try;

DROP INDEX consents_valid;
DROP INDEX dial_attempts_person;
CREATE INDEX dial_attempts_run ON dial_attempts (namespace, campaign, run_id, contact_id);
DROP INDEX dial_attempts_late;
DROP INDEX dial_attempts_ended;
CREATE INDEX dial_attempts_unsettled ON dial_attempts (state) WHERE state NOT IN ('revoked', 'settled');
DROP INDEX dial_attempts_call_sid;
ALTER TABLE dial_attempts ADD CONSTRAINT dial_attempts_call_sid_key UNIQUE (call_sid);

DROP TRIGGER call_scripts_stay ON call_scripts;
DROP TRIGGER carrier_accounts_stay ON carrier_accounts;
DROP TRIGGER accounts_stay ON accounts;
DROP FUNCTION register_refuse_loss;
ALTER TABLE ledger_entries ADD FOREIGN KEY (account_id) REFERENCES accounts (id);
ALTER TABLE dial_attempts ADD FOREIGN KEY (account_sid) REFERENCES carrier_accounts (account_sid);

DROP VIEW holds;
CREATE TABLE holds (
    attempt_id uuid NOT NULL REFERENCES dial_attempts (id),
    account_id bigint NOT NULL REFERENCES accounts (id),
    amount_micros bigint NOT NULL CHECK (amount_micros >= 0),
    PRIMARY KEY (attempt_id, account_id)
);
INSERT INTO holds SELECT attempt_id, account_id, held_micros FROM ledger_entries WHERE kind = 'hold';

ALTER TABLE dial_attempts DROP COLUMN caps;
ALTER TABLE dial_attempts ADD COLUMN script jsonb;
UPDATE dial_attempts a SET script = s.script::jsonb FROM call_scripts s WHERE s.digest = a.script_digest;
ALTER TABLE dial_attempts ALTER COLUMN script SET NOT NULL, DROP COLUMN script_digest;
DROP TABLE call_scripts;

-- As they were in 0001.
CREATE OR REPLACE FUNCTION ledger_take_epoch() RETURNS bigint LANGUAGE sql AS $$
    UPDATE installation SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch;
$$;
CREATE OR REPLACE FUNCTION ledger_assert_epoch(p_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM installation WHERE id = 1 AND epoch = p_epoch FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'epoch % is over: another operator leads', p_epoch USING ERRCODE = 'CF001';
    END IF;
END $$;
CREATE OR REPLACE FUNCTION gate_refusal(p_contact uuid, p_account_sid text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    IF (SELECT stopped FROM installation WHERE id = 1) THEN
        RETURN 'Stopped';
    END IF;
    IF NOT EXISTS (SELECT 1 FROM consents
                   WHERE contact_id = p_contact AND revoked_at IS NULL AND given_at <= v_now) THEN
        RETURN 'NoConsent';
    END IF;
    -- Unknown accounts count as real: the gate fails closed.
    IF NOT COALESCE((SELECT simulated FROM carrier_accounts WHERE account_sid = p_account_sid), false)
       AND NOT EXISTS (SELECT 1 FROM dial_allowlist a JOIN contacts c USING (number_hash) WHERE c.id = p_contact) THEN
        RETURN 'DoNotCall';
    END IF;
    RETURN NULL;
END $$;
DROP FUNCTION gate(uuid, text);
DROP FUNCTION ledger_epoch_lock();

CREATE FUNCTION ledger_hold_one(p_epoch bigint, p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_id uuid := (p->>'attempt_id')::uuid;
    v_amount bigint := (p->>'amount_micros')::bigint;
    v_contact contacts%ROWTYPE;
    v_old dial_attempts%ROWTYPE;
    v_camp campaigns%ROWTYPE;
    v_keys text[] := ARRAY(SELECT jsonb_array_elements_text(p->'accounts'));
    v_refusal jsonb;
    v_reason text;
    v_now timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO v_old FROM dial_attempts WHERE id = v_id;
    IF FOUND THEN
        RETURN jsonb_build_object('result', CASE WHEN v_old.state = 'granted' THEN 'Held' ELSE 'Closed' END,
                                  'expires_at', v_old.expires_at);
    END IF;
    SELECT * INTO v_contact FROM contacts
        WHERE id = (p->>'contact_id')::uuid AND namespace = p->>'namespace';
    IF NOT FOUND THEN
        RETURN jsonb_build_object('result', 'NoConsent');
    END IF;
    SELECT * INTO v_camp FROM campaigns WHERE namespace = p->>'namespace' AND name = p->>'campaign';
    IF NOT FOUND OR v_camp.suspended OR v_camp.closed THEN
        RETURN jsonb_build_object('result', 'Suspended');
    END IF;
    v_reason := gate_refusal(v_contact.id, p->>'account_sid');
    IF v_reason IS NOT NULL THEN
        RETURN jsonb_build_object('result', v_reason);
    END IF;
    -- Not, or no longer, on the run's list: an object alone calls nobody.
    IF NOT EXISTS (SELECT 1 FROM campaign_contacts WHERE namespace = p->>'namespace' AND campaign = p->>'campaign'
                   AND run_id = p->>'run_id' AND contact_id = v_contact.id) THEN
        RETURN jsonb_build_object('result', 'Closed');
    END IF;
    -- Tried as often as the campaign allows now.
    IF (SELECT count(*) FROM dial_attempts WHERE namespace = p->>'namespace' AND campaign = p->>'campaign'
        AND run_id = p->>'run_id' AND contact_id = v_contact.id AND state <> 'revoked' AND counts)
       >= (p->>'max_attempts')::integer THEN
        RETURN jsonb_build_object('result', 'Closed');
    END IF;
    -- Called already in this run: whatever Kubernetes says, nobody is called twice.
    IF EXISTS (SELECT 1 FROM campaign_contacts WHERE namespace = p->>'namespace' AND campaign = p->>'campaign'
               AND run_id = p->>'run_id' AND contact_id = v_contact.id AND finished_at IS NOT NULL)
       OR EXISTS (SELECT 1 FROM dial_attempts WHERE namespace = p->>'namespace' AND campaign = p->>'campaign'
               AND run_id = p->>'run_id' AND contact_id = v_contact.id AND state <> 'revoked'
               AND (state <> 'settled' OR end_status NOT IN ('busy', 'no-answer', 'canceled', 'notPlaced')
                    OR number >= (p->>'number')::integer)) THEN
        RETURN jsonb_build_object('result', 'Closed');
    END IF;
    IF EXISTS (SELECT 1 FROM dial_attempts WHERE number_hash = v_contact.number_hash
               AND state IN ('granted', 'dialing', 'placed')) THEN
        RETURN jsonb_build_object('result', 'NumberBusy');
    END IF;
    v_refusal := ledger_refusal(v_keys, p->>'currency', v_amount);
    IF v_refusal IS NOT NULL THEN
        RETURN v_refusal;
    END IF;
    INSERT INTO dial_attempts (id, state, number, namespace, campaign, run_id, contact_id, session_name, session_uid,
        number_hash, account_sid, from_number, currency, hold_micros, time_limit_s, ring_timeout_s, max_queue_s,
        time_zone, script, granted_pod_uid, epoch, granted_at, expires_at)
    VALUES (v_id, 'granted', (p->>'number')::integer, p->>'namespace', p->>'campaign', p->>'run_id', v_contact.id,
        p->>'session_name', p->>'session_uid', v_contact.number_hash, p->>'account_sid', p->>'from_number',
        p->>'currency', v_amount, (p->>'time_limit_s')::integer, (p->>'ring_timeout_s')::integer,
        (p->>'max_queue_s')::integer, p->>'time_zone', p->'script', p->>'pod_uid', p_epoch, v_now,
        v_now + make_interval(secs => (p->>'expires_after_s')::integer));
    INSERT INTO holds SELECT v_id, id, v_amount FROM accounts WHERE key = ANY (v_keys);
    INSERT INTO ledger_entries (attempt_id, account_id, kind, held_micros, spent_micros, limit_micros, at)
        SELECT v_id, id, 'hold', v_amount, 0, limit_micros, v_now FROM accounts WHERE key = ANY (v_keys);
    UPDATE accounts SET held_micros = held_micros + v_amount WHERE key = ANY (v_keys);
    RETURN jsonb_build_object('result', 'Held',
                              'expires_at', v_now + make_interval(secs => (p->>'expires_after_s')::integer));
END $$;

CREATE FUNCTION ledger_hold(p_epoch bigint, p_batch jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_item jsonb;
    v_results jsonb := '[]';
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    PERFORM pg_advisory_xact_lock(hashtext('callfleet.ledger_hold'));
    PERFORM 1 FROM accounts WHERE key IN (
        SELECT jsonb_array_elements_text(item->'accounts') FROM jsonb_array_elements(p_batch) item
    ) ORDER BY id FOR UPDATE;
    FOR v_item IN SELECT * FROM jsonb_array_elements(p_batch) LOOP
        v_results := v_results || jsonb_build_array(
            ledger_hold_one(p_epoch, v_item) || jsonb_build_object('attempt_id', v_item->>'attempt_id'));
    END LOOP;
    RETURN v_results;
END $$;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
