-- A cluster that was restored from a backup has an object again as it was (docs/decisions/0033). What was taken from its
-- later generations is no more: the next that is seen of the object counts, and one that was deleted since is not.
CREATE FUNCTION ledger_forget_later(
    p_epoch bigint, p_namespace text, p_kind text, p_name text, p_uid text, p_generation bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_newest bigint;
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    SELECT max(generation) INTO v_newest FROM (
        SELECT limit_generation AS generation FROM accounts
            WHERE namespace = p_namespace AND kind = p_kind AND name = p_name AND limit_uid = p_uid
        UNION ALL SELECT generation FROM campaigns
            WHERE p_kind = 'Campaign' AND namespace = p_namespace AND name = p_name AND uid = p_uid) known;
    -- Nor that it was gone, and is there again.
    IF COALESCE(v_newest <= p_generation, true) AND NOT EXISTS (
        SELECT 1 FROM campaigns WHERE p_kind = 'Campaign' AND namespace = p_namespace AND name = p_name AND uid = p_uid
            AND closed) THEN
        RETURN false;
    END IF;
    -- In the order of all functions: campaigns, then accounts by their id.
    UPDATE campaigns SET generation = p_generation, closed = false
        WHERE p_kind = 'Campaign' AND namespace = p_namespace AND name = p_name AND uid = p_uid
        AND (generation > p_generation OR closed);
    PERFORM 1 FROM accounts WHERE namespace = p_namespace AND kind = p_kind AND name = p_name AND limit_uid = p_uid
        ORDER BY id FOR NO KEY UPDATE;
    UPDATE accounts SET limit_generation = p_generation
        WHERE namespace = p_namespace AND kind = p_kind AND name = p_name AND limit_uid = p_uid
        AND limit_generation > p_generation;
    INSERT INTO audit_log (actor, action, subject, reason, before, after) VALUES ('callfleet-operator',
        'generation.forget', p_namespace || '/' || p_kind || '/' || p_name, 'the cluster was restored from a backup',
        jsonb_build_object('generation', v_newest), jsonb_build_object('generation', p_generation));
    RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION ledger_forget_later(bigint, text, text, text, text, bigint) FROM PUBLIC;
