-- The change log anew: in partitions by revision that are dropped whole, and with the version before each change.
-- What it held is dropped: its versions before a change were not whole.
DROP TABLE change;

-- moved_from: the name under which lists had found the row until this change, which ended or renamed it; null for others.
-- ledger: of hosts target, used, number of claims; of projects limits (null for usual ones), used.
CREATE TABLE change (
    revision        bigint PRIMARY KEY,
    kind            smallint NOT NULL,
    id              text COLLATE "C" NOT NULL,
    project_id      text NOT NULL,
    version         bigint NOT NULL,
    epoch           bigint NOT NULL,
    deleted         boolean NOT NULL,
    public          boolean NOT NULL,
    moved_from      text COLLATE "C",
    ledger          bigint[],
    body            bytea NOT NULL,
    before          bytea,
    before_revision bigint,
    before_epoch    bigint,
    before_ledger   bigint[],
    committed_at    timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (revision);
CREATE INDEX change_moved ON change (kind, id) WHERE moved_from IS NOT NULL;
CREATE TABLE change_rest PARTITION OF change DEFAULT;

-- The partitions but the default one: change_LOWER holds the revisions from lower to below upper.
CREATE TABLE change_part (
    lower bigint PRIMARY KEY,
    upper bigint NOT NULL
);

-- The log is whole above this revision.
CREATE TABLE compaction (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO compaction (revision) SELECT revision FROM counter;

-- Makes partitions until two whole ones are ahead of the head.
CREATE FUNCTION log_ahead(width bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    head bigint;
    ahead bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(x'57EAD106'::bigint);
    head := (SELECT revision FROM counter);
    ahead := coalesce((SELECT max(upper) FROM change_part), 0);
    IF ahead <= head + width THEN
        -- Commits may soon go to the default partition, into the range of the new one: they wait a moment.
        SELECT revision INTO head FROM counter FOR UPDATE;
        ahead := greatest(ahead, head + 1);
    END IF;
    WHILE ahead <= head + 2 * width LOOP
        EXECUTE format('CREATE TABLE change_%s (LIKE change INCLUDING ALL)', ahead);
        EXECUTE format('ALTER TABLE change ATTACH PARTITION change_%s FOR VALUES FROM (%s) TO (%s)',
                       ahead, ahead, ahead + width);
        INSERT INTO change_part (lower, upper) VALUES (ahead, ahead + width);
        ahead := ahead + width;
    END LOOP;
END $$;

-- Moves the compaction revision over full partitions that are too old, or too much; what is dropped then is log_drop's affair.
CREATE FUNCTION log_compact(keep_s double precision, bytes_max bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    part change_part;
    newest timestamptz;
    size bigint := pg_total_relation_size('change_rest');
    compacted bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(x'57EAD106'::bigint);
    SELECT revision INTO compacted FROM compaction;
    size := size + coalesce((SELECT sum(pg_total_relation_size('change_' || lower)) FROM change_part), 0)::bigint;
    FOR part IN SELECT p.* FROM change_part p, counter c WHERE p.upper <= c.revision + 1 ORDER BY p.lower LOOP
        EXECUTE format('SELECT committed_at FROM change_%s ORDER BY revision DESC LIMIT 1', part.lower) INTO newest;
        EXIT WHEN size <= bytes_max AND newest >= now() - make_interval(secs => keep_s);
        size := size - pg_total_relation_size('change_' || part.lower);
        compacted := greatest(compacted, part.upper - 1);
    END LOOP;
    UPDATE compaction SET revision = compacted WHERE revision < compacted;
    RETURN compacted;
END $$;

-- Drops what lies at or below the compaction revision as it was committed before.
CREATE FUNCTION log_drop() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    part change_part;
BEGIN
    PERFORM pg_advisory_xact_lock(x'57EAD106'::bigint);
    FOR part IN SELECT p.* FROM change_part p, compaction c WHERE p.upper - 1 <= c.revision ORDER BY p.lower LOOP
        EXECUTE format('DROP TABLE change_%s', part.lower);
        DELETE FROM change_part WHERE lower = part.lower;
    END LOOP;
    IF EXISTS (SELECT FROM change_rest)
       AND (SELECT max(revision) FROM change_rest) <= (SELECT revision FROM compaction) THEN
        TRUNCATE change_rest;
    END IF;
END $$;

SELECT log_ahead(250000);
