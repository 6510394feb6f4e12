-- The protocol of money and dialling (docs/architecture.md). Every change of a balance is made by one of these
-- functions, each in one transaction, locking in one order: epoch, attempt, carrier account, ledger accounts by id.
-- A hold locks its accounts before its attempts exist, which is safe because holds are serialised by an advisory
-- lock and never wait for a number: an open attempt for the number is seen, and answered as NumberBusy.

CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger entries are append-only: post a new entry instead';
END $$;
CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

CREATE FUNCTION ledger_take_epoch() RETURNS bigint LANGUAGE sql AS $$
    UPDATE installation SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch;
$$;

-- The share lock makes a new epoch wait for the ledger writes of the old one, and refuses them afterwards.
CREATE FUNCTION ledger_assert_epoch(p_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM installation WHERE id = 1 AND epoch = p_epoch FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'epoch % is over: another operator leads', p_epoch USING ERRCODE = 'CF001';
    END IF;
END $$;

-- Sets an account's limit from a Kubernetes object. Within a UID only a newer generation counts; a new UID counts
-- when it was listed under the current epoch, which the caller asserts by passing it.
CREATE FUNCTION ledger_set_limit(
    p_epoch bigint, p_namespace text, p_kind text, p_name text, p_window text, p_start timestamptz,
    p_end timestamptz, p_currency text, p_limit_micros bigint, p_suspended boolean, p_uid text, p_generation bigint
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_key text := p_namespace || '/' || p_kind || '/' || p_name || '/' || p_window;
    v accounts%ROWTYPE;
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    -- One object has one currency in all its windows, past ones included.
    IF EXISTS (SELECT 1 FROM accounts WHERE namespace = p_namespace AND kind = p_kind AND name = p_name
               AND currency <> p_currency) THEN
        RETURN 'CurrencyMismatch';
    END IF;
    INSERT INTO accounts (key, namespace, kind, name, time_window, window_start, window_end, currency, limit_micros,
                          suspended, limit_uid, limit_generation, limit_epoch)
    VALUES (v_key, p_namespace, p_kind, p_name, p_window, p_start, p_end, p_currency, p_limit_micros,
            p_suspended, p_uid, p_generation, p_epoch)
    ON CONFLICT (key) DO NOTHING;
    SELECT * INTO v FROM accounts WHERE key = v_key FOR UPDATE;
    IF v.limit_uid = p_uid AND v.limit_generation > p_generation THEN
        RETURN 'Stale';
    END IF;
    -- A new generation says that somebody has looked at an overrun.
    UPDATE accounts SET limit_micros = p_limit_micros, suspended = p_suspended, closed = false,
        overrun = overrun AND limit_uid = p_uid AND limit_generation = p_generation,
        limit_uid = p_uid, limit_generation = p_generation, limit_epoch = p_epoch WHERE id = v.id;
    RETURN 'Applied';
END $$;

-- A deleted object's rows take no new holds; an object that is made again under the name reopens them by its limit.
CREATE FUNCTION ledger_close_account(p_epoch bigint, p_namespace text, p_kind text, p_name text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    UPDATE accounts SET closed = true
    WHERE namespace = p_namespace AND kind = p_kind AND name = p_name AND NOT closed;
END $$;

CREATE FUNCTION gate_refusal(p_contact uuid, p_account_sid text) RETURNS text LANGUAGE plpgsql STABLE AS $$
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

CREATE FUNCTION window_is_open(v accounts) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT COALESCE(v.window_start <= clock_timestamp(), true) AND COALESCE(clock_timestamp() < v.window_end, true);
$$;

-- Finds why accounts cannot take an amount: the first hard reason, else the largest shortfall. NULL = they can.
CREATE FUNCTION ledger_refusal(p_keys text[], p_currency text, p_amount bigint) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v accounts%ROWTYPE;
    v_key text;
    v_worst jsonb;
    v_short bigint := 0;
    v_exhausted boolean := false;
    v_this bigint;
BEGIN
    IF cardinality(p_keys) = 0 THEN
        RETURN jsonb_build_object('result', 'BudgetNotFound');
    END IF;
    FOREACH v_key IN ARRAY p_keys LOOP
        SELECT * INTO v FROM accounts WHERE key = v_key;
        IF NOT FOUND OR v.closed THEN
            RETURN jsonb_build_object('result', 'BudgetNotFound', 'account', v_key);
        ELSIF v.currency <> p_currency THEN
            RETURN jsonb_build_object('result', 'CurrencyMismatch', 'account', v_key);
        ELSIF v.suspended OR v.overrun THEN
            -- After an overrun the prices are wrong: nothing more is held until somebody has looked.
            RETURN jsonb_build_object('result', 'Suspended', 'account', v_key);
        ELSIF NOT window_is_open(v) THEN
            RETURN jsonb_build_object('result', 'WindowClosed', 'account', v_key);
        END IF;
        IF v.limit_micros IS NULL OR v.spent_micros + v.held_micros + p_amount <= v.limit_micros THEN
            CONTINUE;
        END IF;
        IF v.spent_micros + p_amount > v.limit_micros THEN
            v_this := v.spent_micros + p_amount - v.limit_micros;
            IF NOT v_exhausted OR v_this > v_short THEN
                v_worst := jsonb_build_object('result', 'BudgetExhausted', 'account', v_key, 'shortfall_micros', v_this);
                v_short := v_this;
            END IF;
            v_exhausted := true;
        ELSIF NOT v_exhausted THEN
            v_this := v.spent_micros + v.held_micros + p_amount - v.limit_micros;
            IF v_this > v_short THEN
                v_worst := jsonb_build_object('result', 'BudgetHeld', 'account', v_key, 'shortfall_micros', v_this);
                v_short := v_this;
            END IF;
        END IF;
    END LOOP;
    RETURN v_worst;
END $$;

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

-- Holds a batch, in the order given, in one transaction: each item is held whole or not at all.
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

-- Gives a locked, granted attempt's money back.
CREATE FUNCTION ledger_release(p_attempt uuid, p_reason text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM 1 FROM accounts WHERE id IN (SELECT account_id FROM holds WHERE attempt_id = p_attempt)
        ORDER BY id FOR UPDATE;
    INSERT INTO ledger_entries (attempt_id, account_id, kind, held_micros, spent_micros, limit_micros, at)
        SELECT h.attempt_id, h.account_id, 'release', -h.amount_micros, 0, a.limit_micros, v_now
        FROM holds h JOIN accounts a ON a.id = h.account_id WHERE h.attempt_id = p_attempt;
    UPDATE accounts a SET held_micros = a.held_micros - h.amount_micros
        FROM holds h WHERE h.attempt_id = p_attempt AND h.account_id = a.id;
    UPDATE dial_attempts SET state = 'revoked', reason = p_reason, ended_at = v_now, settled_at = v_now
        WHERE id = p_attempt;
END $$;

CREATE FUNCTION ledger_revoke(p_epoch bigint, p_attempt uuid, p_reason text) RETURNS text LANGUAGE plpgsql AS $$
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

-- Settles an ended attempt once: the actual cost against the hold, the rest returns. An actual above its hold is
-- posted in full and marks the accounts as overrun. Evidence that comes after an unresolved attempt was settled at 0
-- is posted as a late entry, without a hold to return.
CREATE FUNCTION ledger_settle(p_epoch bigint, p_attempt uuid, p_lines jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v dial_attempts%ROWTYPE;
    v_actual bigint;
    v_late boolean;
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    SELECT * INTO v FROM dial_attempts WHERE id = p_attempt FOR UPDATE;
    v_late := v.state = 'settled' AND v.reason IS NOT DISTINCT FROM 'LateEvidence';
    IF NOT FOUND OR NOT (v.state = 'ended' OR v_late) THEN
        RETURN COALESCE(v.state, 'unknown');
    END IF;
    SELECT COALESCE(sum((line->>'amount_micros')::bigint), 0) INTO v_actual FROM jsonb_array_elements(p_lines) line;
    PERFORM 1 FROM accounts WHERE id IN (SELECT account_id FROM holds WHERE attempt_id = p_attempt)
        ORDER BY id FOR UPDATE;
    INSERT INTO ledger_entries (attempt_id, account_id, kind, held_micros, spent_micros, limit_micros, at)
        SELECT p_attempt, h.account_id, CASE WHEN v_late THEN 'late' ELSE 'settle' END,
               CASE WHEN v_late THEN 0 ELSE -h.amount_micros END, v_actual, a.limit_micros, v_now
        FROM holds h JOIN accounts a ON a.id = h.account_id WHERE h.attempt_id = p_attempt;
    UPDATE accounts a SET
            held_micros = a.held_micros - CASE WHEN v_late THEN 0 ELSE h.amount_micros END,
            spent_micros = a.spent_micros + v_actual,
            overrun = a.overrun OR v_actual > h.amount_micros
        FROM holds h WHERE h.attempt_id = p_attempt AND h.account_id = a.id;
    INSERT INTO cost_lines SELECT p_attempt, line->>'meter', (line->>'quantity')::numeric,
                                  (line->>'amount_micros')::bigint FROM jsonb_array_elements(p_lines) line
        ON CONFLICT (attempt_id, meter) DO UPDATE SET quantity = EXCLUDED.quantity, amount_micros = EXCLUDED.amount_micros;
    UPDATE dial_attempts SET state = 'settled', settled_at = v_now, actual_micros = v_actual,
        reason = CASE WHEN v_late THEN NULL ELSE reason END WHERE id = p_attempt;
    UPDATE calls SET cost = v_actual / 1000000.0 WHERE id = p_attempt;
    RETURN 'settled';
END $$;

CREATE FUNCTION dial_order(p_attempt uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'attempt_id', a.id, 'number', a.number, 'namespace', a.namespace, 'campaign', a.campaign,
        'session', a.session_name, 'contact_id', a.contact_id, 'to', c.phone, 'from_', a.from_number,
        'contact_name', c.name, 'time_limit_s', a.time_limit_s, 'ring_timeout_s', a.ring_timeout_s,
        'max_queue_s', a.max_queue_s, 'account_sid', a.account_sid, 'api_base_url', k.api_base_url, 'public_url', k.public_url,
        'generation', a.owner_generation, 'script', a.script, 'time_zone', a.time_zone)
    FROM dial_attempts a JOIN contacts c ON c.id = a.contact_id
    JOIN carrier_accounts k ON k.account_sid = a.account_sid WHERE a.id = p_attempt;
$$;

-- Why a granted attempt may not be dialled now, checked under its row's lock by this server's clock. NULL = it may.
CREATE FUNCTION begin_dial_refusal(v dial_attempts, p_pod_uid text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_account accounts%ROWTYPE;
    v_held integer := 0;
BEGIN
    IF v.granted_pod_uid <> p_pod_uid THEN
        RETURN 'WrongPod';
    ELSIF v.expires_at <= clock_timestamp() THEN
        RETURN 'Expired';
    ELSIF v.cancel_requested_at IS NOT NULL THEN
        RETURN 'Canceled';
    ELSIF NOT EXISTS (SELECT 1 FROM campaigns WHERE namespace = v.namespace AND name = v.campaign
                      AND NOT suspended AND NOT closed) THEN
        RETURN 'Suspended';
    END IF;
    FOR v_account IN SELECT a.* FROM holds h JOIN accounts a ON a.id = h.account_id WHERE h.attempt_id = v.id LOOP
        IF v_account.closed THEN
            RETURN 'BudgetNotFound';
        ELSIF v_account.suspended THEN
            RETURN 'Suspended';
        ELSIF NOT window_is_open(v_account) THEN
            RETURN 'WindowClosed';
        END IF;
        v_held := v_held + 1;
    END LOOP;
    IF v_held = 0 THEN
        RETURN 'BudgetNotFound';
    END IF;
    RETURN gate_refusal(v.contact_id, v.account_sid);
END $$;

CREATE FUNCTION begin_dial(p_attempt uuid, p_pod_uid text, p_nonce uuid) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v dial_attempts%ROWTYPE;
    v_carrier carrier_accounts%ROWTYPE;
    v_reason text;
    v_now timestamptz;
BEGIN
    SELECT * INTO v FROM dial_attempts WHERE id = p_attempt FOR UPDATE;
    v_now := clock_timestamp();
    IF NOT FOUND THEN
        RETURN jsonb_build_object('verdict', 'refused', 'reason', 'UnknownAttempt');
    END IF;
    IF v.state = 'dialing' AND v.nonce = p_nonce AND v.owner_pod_uid = p_pod_uid THEN
        RETURN jsonb_build_object('verdict', 'go', 'order', dial_order(p_attempt));
    ELSIF v.state <> 'granted' THEN
        RETURN jsonb_build_object('verdict', 'refused', 'reason',
            CASE WHEN v.state = 'revoked' THEN 'Revoked' ELSE 'AlreadyBegun' END);
    END IF;
    v_reason := begin_dial_refusal(v, p_pod_uid);
    -- Another pod's mistake must not take the grant from the pod that it names.
    IF v_reason = 'WrongPod' THEN
        RETURN jsonb_build_object('verdict', 'refused', 'reason', v_reason);
    ELSIF v_reason IS NOT NULL THEN
        PERFORM ledger_release(p_attempt, v_reason);
        RETURN jsonb_build_object('verdict', 'refused', 'reason', v_reason);
    END IF;
    SELECT * INTO v_carrier FROM carrier_accounts WHERE account_sid = v.account_sid FOR UPDATE;
    v_now := clock_timestamp();
    IF v_carrier.next_dial_at > v_now THEN
        RETURN jsonb_build_object('verdict', 'wait', 'retry_at', v_carrier.next_dial_at, 'reason', 'Pacing');
    END IF;
    UPDATE carrier_accounts SET next_dial_at = v_now + make_interval(secs => 1 / calls_per_second::double precision)
        WHERE account_sid = v.account_sid;
    UPDATE dial_attempts SET state = 'dialing', nonce = p_nonce, owner_pod_uid = p_pod_uid, owner_generation = 1,
        begun_at = v_now WHERE id = p_attempt;
    INSERT INTO calls (id, contact_id, status) VALUES (p_attempt, v.contact_id, 'dialing');
    RETURN jsonb_build_object('verdict', 'go', 'order', dial_order(p_attempt));
END $$;

CREATE FUNCTION record_placed(p_attempt uuid, p_sid text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v dial_attempts%ROWTYPE;
BEGIN
    SELECT * INTO v FROM dial_attempts WHERE id = p_attempt FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown_attempt';
    ELSIF v.call_sid = p_sid THEN
        RETURN 'same';
    ELSIF v.call_sid IS NOT NULL THEN
        RETURN 'second_sid';
    ELSIF v.state = 'dialing' OR (v.state IN ('ended', 'settled') AND v.end_status IN ('unresolved', 'notPlaced')) THEN
        UPDATE dial_attempts SET call_sid = p_sid, placed_at = clock_timestamp(),
            state = CASE WHEN v.state = 'dialing' THEN 'placed' ELSE v.state END WHERE id = p_attempt;
        UPDATE calls SET status = 'placed' WHERE id = p_attempt AND status = 'dialing';
        RETURN 'placed';
    END IF;
    RETURN 'closed';
END $$;

CREATE FUNCTION record_answered(p_attempt uuid, p_sid text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE dial_attempts SET answered_at = p_at
        WHERE id = p_attempt AND call_sid = p_sid AND answered_at IS NULL AND state IN ('placed', 'ended', 'settled');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE calls SET start_time = p_at, status = CASE WHEN status = 'placed' THEN 'in-progress' ELSE status END
        WHERE id = p_attempt;
    RETURN true;
END $$;

-- The carrier's error codes that are about the number itself; whatever else kept a call from being placed passes.
CREATE FUNCTION number_is_bad(p_code text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT COALESCE(p_code IN ('13223', '13224', '13225', '21211', '21214', '21217', '21219', '21265', '21401', '21614'), false);
$$;

-- The carrier's final word ends an attempt once. Evidence with another call's SID is refused; evidence for an
-- unresolved attempt replaces that verdict, before or after it was settled at 0.
CREATE FUNCTION record_ended(p_attempt uuid, p_evidence jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v dial_attempts%ROWTYPE;
    v_sid text := p_evidence->>'call_sid';
    v_status text := p_evidence->>'status';
    v_open boolean;
    v_late boolean;
BEGIN
    SELECT * INTO v FROM dial_attempts WHERE id = p_attempt FOR UPDATE;
    IF NOT FOUND OR (v.call_sid IS NOT NULL AND v_sid IS NOT NULL AND v.call_sid <> v_sid) THEN
        RETURN false;
    END IF;
    v_open := v.state IN ('dialing', 'placed');
    v_late := v.state IN ('ended', 'settled') AND v.end_status IN ('unresolved', 'notPlaced')
        AND v_status NOT IN ('unresolved', 'notPlaced');
    -- A call that the carrier is known to have taken was placed, and it can always be asked how it ended.
    IF NOT (v_open OR v_late) OR (v_status IN ('notPlaced', 'unresolved') AND v.call_sid IS NOT NULL) THEN
        RETURN false;
    END IF;
    UPDATE dial_attempts SET
        state = CASE WHEN v.state = 'settled' THEN 'settled' ELSE 'ended' END,
        reason = CASE WHEN v.state = 'settled' THEN 'LateEvidence' ELSE v.reason END,
        call_sid = COALESCE(v.call_sid, v_sid), end_status = v_status, evidence = p_evidence,
        counts = COALESCE(v_status, '') <> 'notPlaced' OR number_is_bad(p_evidence->>'error_code'),
        duration_s = (p_evidence->>'duration_s')::integer, ended_at = (p_evidence->>'at')::timestamptz
        WHERE id = p_attempt;
    UPDATE calls SET status = v_status, end_time = (p_evidence->>'at')::timestamptz,
        duration = (p_evidence->>'duration_s')::integer WHERE id = p_attempt;
    RETURN true;
END $$;

-- A worker's word counts only while it owns the call's media leg.
CREATE FUNCTION worker_owns(p_attempt uuid, p_pod_uid text, p_generation integer) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM dial_attempts WHERE id = p_attempt AND owner_pod_uid = p_pod_uid
                   AND owner_generation = p_generation);
$$;

CREATE FUNCTION worker_record_placed(p_attempt uuid, p_pod_uid text, p_generation integer, p_sid text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT worker_owns(p_attempt, p_pod_uid, p_generation) THEN
        RETURN 'closed';
    END IF;
    RETURN record_placed(p_attempt, p_sid);
END $$;

CREATE FUNCTION worker_record_answered(p_attempt uuid, p_pod_uid text, p_generation integer, p_sid text, p_at timestamptz)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN worker_owns(p_attempt, p_pod_uid, p_generation) AND record_answered(p_attempt, p_sid, p_at);
END $$;

CREATE FUNCTION worker_record_ended(p_attempt uuid, p_pod_uid text, p_generation integer, p_evidence jsonb)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN worker_owns(p_attempt, p_pod_uid, p_generation) AND record_ended(p_attempt, p_evidence);
END $$;

-- What TwiML needs to know of an attempt, for gateway and worker alike; no money, no person.
CREATE FUNCTION attempt_view(p_attempt uuid) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT jsonb_build_object('attempt_id', a.id, 'state', a.state, 'call_sid', a.call_sid,
        'cancel_requested', a.cancel_requested_at IS NOT NULL, 'account_sid', a.account_sid,
        'public_url', k.public_url, 'ring_timeout_s', a.ring_timeout_s, 'time_limit_s', a.time_limit_s)
    FROM dial_attempts a JOIN carrier_accounts k USING (account_sid) WHERE a.id = p_attempt;
$$;
