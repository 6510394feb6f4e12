-- What CallFleet keeps: who may be called and why, who was called, the money, the calls and what was said.
-- Money is bigint micros. Times are timestamptz.

CREATE TABLE installation (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    epoch bigint NOT NULL DEFAULT 0,
    stopped boolean NOT NULL DEFAULT false
);
INSERT INTO installation DEFAULT VALUES;

-- A carrier account. Anything that is not said to be simulated is real, and real carriers dial only numbers of
-- dial_allowlist until the legal gate has landed; nothing that names Twilio's own host can be called simulated.
CREATE TABLE carrier_accounts (
    account_sid text PRIMARY KEY,
    api_base_url text NOT NULL,
    public_url text NOT NULL,
    simulated boolean NOT NULL DEFAULT false,
    calls_per_second numeric(8, 3) NOT NULL DEFAULT 1 CHECK (calls_per_second > 0),
    next_dial_at timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT carrier_accounts_twilio_is_real CHECK (NOT (simulated AND api_base_url ~* 'twilio\.com'))
);

CREATE TABLE dial_allowlist (number_hash text PRIMARY KEY);

CREATE TABLE contacts (
    id uuid PRIMARY KEY,
    namespace text NOT NULL,
    number_hash text NOT NULL,
    phone text NOT NULL,
    name text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX contacts_namespace_number ON contacts (namespace, number_hash);

CREATE TABLE consents (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    contact_id uuid NOT NULL REFERENCES contacts (id),
    kind text NOT NULL,
    source text NOT NULL,
    -- The campaign whose list states it; what its newer list leaves out is revoked.
    origin text NOT NULL,
    given_at timestamptz NOT NULL,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX consents_once ON consents (contact_id, kind, source, given_at, origin);

-- The operator's mirror of what may be dialled at all; begin_dial asks it, never Kubernetes.
CREATE TABLE campaigns (
    namespace text NOT NULL,
    name text NOT NULL,
    uid text NOT NULL,
    generation bigint NOT NULL,
    suspended boolean NOT NULL DEFAULT false,
    closed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (namespace, name)
);

-- Who was called: outlives every Kubernetes object, so that re-creation never calls anybody again.
CREATE TABLE campaign_contacts (
    namespace text NOT NULL,
    campaign text NOT NULL,
    run_id text NOT NULL,
    contact_id uuid NOT NULL REFERENCES contacts (id),
    position integer NOT NULL,
    session_name text NOT NULL,
    state text,
    disposition text,
    finished_at timestamptz,
    PRIMARY KEY (namespace, campaign, run_id, contact_id)
);

CREATE TABLE accounts (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    key text NOT NULL UNIQUE,
    namespace text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('Budget', 'Campaign', 'Installation')),
    name text NOT NULL,
    time_window text NOT NULL,
    -- [start, end) of a daily or monthly window, written once; NULL for the total.
    window_start timestamptz,
    window_end timestamptz,
    currency text NOT NULL,
    limit_micros bigint CHECK (limit_micros >= 0),
    held_micros bigint NOT NULL DEFAULT 0 CHECK (held_micros >= 0),
    spent_micros bigint NOT NULL DEFAULT 0,
    suspended boolean NOT NULL DEFAULT false,
    closed boolean NOT NULL DEFAULT false,
    overrun boolean NOT NULL DEFAULT false,
    limit_uid text NOT NULL,
    limit_generation bigint NOT NULL,
    limit_epoch bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE dial_attempts (
    id uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('granted', 'revoked', 'dialing', 'placed', 'ended', 'settled')),
    number integer NOT NULL CHECK (number >= 1),
    namespace text NOT NULL,
    campaign text NOT NULL,
    run_id text NOT NULL,
    contact_id uuid NOT NULL REFERENCES contacts (id),
    session_name text NOT NULL,
    session_uid text NOT NULL,
    number_hash text NOT NULL,
    account_sid text NOT NULL REFERENCES carrier_accounts (account_sid),
    from_number text NOT NULL,
    currency text NOT NULL,
    hold_micros bigint NOT NULL CHECK (hold_micros >= 0),
    time_limit_s integer NOT NULL CHECK (time_limit_s BETWEEN 1 AND 14400),
    ring_timeout_s integer NOT NULL CHECK (ring_timeout_s BETWEEN 1 AND 600),
    max_queue_s integer NOT NULL CHECK (max_queue_s BETWEEN 1 AND 3600),
    time_zone text NOT NULL,
    script jsonb NOT NULL,
    granted_pod_uid text NOT NULL,
    owner_pod_uid text,
    owner_generation integer NOT NULL DEFAULT 0,
    nonce uuid,
    epoch bigint NOT NULL,
    granted_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    begun_at timestamptz,
    placed_at timestamptz,
    answered_at timestamptz,
    ended_at timestamptz,
    settled_at timestamptz,
    cancel_requested_at timestamptz,
    call_sid text UNIQUE,
    reason text,
    end_status text,
    duration_s integer CHECK (duration_s >= 0),
    evidence jsonb,
    -- False for what never reached the carrier and may pass: it does not use up one of the campaign's attempts.
    counts boolean NOT NULL DEFAULT true,
    actual_micros bigint,
    lookups_empty integer NOT NULL DEFAULT 0,
    last_lookup_at timestamptz
);
CREATE UNIQUE INDEX dial_attempts_one_open_per_number ON dial_attempts (number_hash)
    WHERE state IN ('granted', 'dialing', 'placed');
CREATE INDEX dial_attempts_unsettled ON dial_attempts (state) WHERE state NOT IN ('revoked', 'settled');
CREATE INDEX dial_attempts_session ON dial_attempts (namespace, session_name, number);

CREATE TABLE holds (
    attempt_id uuid NOT NULL REFERENCES dial_attempts (id),
    account_id bigint NOT NULL REFERENCES accounts (id),
    amount_micros bigint NOT NULL CHECK (amount_micros >= 0),
    PRIMARY KEY (attempt_id, account_id)
);

-- Append-only: every change of an account's balances, each posted once.
CREATE TABLE ledger_entries (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    attempt_id uuid NOT NULL REFERENCES dial_attempts (id),
    account_id bigint NOT NULL REFERENCES accounts (id),
    kind text NOT NULL CHECK (kind IN ('hold', 'release', 'settle', 'late')),
    held_micros bigint NOT NULL,
    spent_micros bigint NOT NULL,
    limit_micros bigint,
    at timestamptz NOT NULL
);
CREATE UNIQUE INDEX ledger_entries_once ON ledger_entries (attempt_id, account_id, kind);

CREATE TABLE cost_lines (
    attempt_id uuid NOT NULL REFERENCES dial_attempts (id),
    meter text NOT NULL,
    quantity numeric(14, 3) NOT NULL,
    amount_micros bigint NOT NULL,
    PRIMARY KEY (attempt_id, meter)
);

CREATE TABLE calls (
    id uuid PRIMARY KEY REFERENCES dial_attempts (id),
    contact_id uuid NOT NULL REFERENCES contacts (id),
    status text NOT NULL,
    disposition text,
    start_time timestamptz,
    end_time timestamptz,
    duration integer,
    cost numeric(10, 4),
    recording_url text,
    turns integer NOT NULL DEFAULT 0,
    decided_by jsonb NOT NULL DEFAULT '{}',
    latency_ms_p50 integer,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX calls_start_time ON calls (start_time);

CREATE TABLE conversations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    call_id uuid NOT NULL REFERENCES calls (id),
    seq integer NOT NULL,
    agent_type text NOT NULL,
    message_type text NOT NULL CHECK (message_type IN ('user', 'assistant')),
    content text NOT NULL,
    "timestamp" timestamptz NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX conversations_call_seq ON conversations (call_id, seq);

CREATE TABLE lead_scores (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    contact_id uuid NOT NULL REFERENCES contacts (id),
    call_id uuid NOT NULL UNIQUE REFERENCES calls (id),
    qualification_score numeric(3, 2) NOT NULL CHECK (qualification_score BETWEEN 0 AND 1),
    interest_level text,
    budget_qualified boolean,
    timeline text,
    decision_maker boolean,
    fields jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX lead_scores_contact ON lead_scores (contact_id);

CREATE TABLE call_usage (
    call_id uuid NOT NULL REFERENCES calls (id),
    meter text NOT NULL,
    provider text NOT NULL,
    quantity numeric(14, 3) NOT NULL,
    PRIMARY KEY (call_id, meter, provider)
);
