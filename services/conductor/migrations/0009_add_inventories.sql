-- What hosts say that they have. Nothing of it is visible to tenants and none of it takes a revision; a host's next report
-- takes the place of the one before. Source: MECHANICS C7.

-- number counts the reports of one incarnation, 0 for the one of its greeting. The guests were listed after the host had
-- heard of the commit as_of_revision. cut_short: there were more guests than a report may carry.
CREATE TABLE inventory (
    host_id        text PRIMARY KEY REFERENCES host ON DELETE CASCADE,
    incarnation    bigint NOT NULL,
    number         bigint NOT NULL,
    as_of_revision bigint NOT NULL,
    cut_short      boolean NOT NULL,
    reported_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- The guests of the newest report, each with when it was first in one.
CREATE TABLE guest (
    host_id            text NOT NULL REFERENCES inventory ON DELETE CASCADE,
    instance_id        uuid NOT NULL,
    epoch              bigint NOT NULL,
    applied_generation bigint NOT NULL,
    power              smallint NOT NULL,
    first_reported_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (host_id, instance_id, epoch)
) WITH (fillfactor = 70);

-- Keeps one report, unless a newer one is kept or the incarnation is not the live one; whether it was the live one's.
CREATE FUNCTION keep_inventory(
    of_host text, of_incarnation bigint, of_number bigint, seen_revision bigint, short boolean,
    instance_ids uuid[], epochs bigint[], generations bigint[], powers smallint[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM host WHERE id = of_host AND incarnation = of_incarnation;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO inventory AS i (host_id, incarnation, number, as_of_revision, cut_short)
    VALUES (of_host, of_incarnation, of_number, seen_revision, short)
        ON CONFLICT (host_id) DO UPDATE SET
           incarnation = excluded.incarnation, number = excluded.number, as_of_revision = excluded.as_of_revision,
           cut_short = excluded.cut_short, reported_at = excluded.reported_at
     WHERE excluded.number = 0 OR i.incarnation <> excluded.incarnation OR i.number < excluded.number;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    WITH said AS (
        SELECT DISTINCT ON (instance_id, epoch) * FROM unnest(instance_ids, epochs, generations, powers)
            AS s (instance_id, epoch, applied_generation, power)
    ), gone AS (
        DELETE FROM guest g WHERE g.host_id = of_host
           AND NOT EXISTS (SELECT FROM said s WHERE s.instance_id = g.instance_id AND s.epoch = g.epoch)
    )
    INSERT INTO guest AS g (host_id, instance_id, epoch, applied_generation, power)
    SELECT of_host, s.instance_id, s.epoch, s.applied_generation, s.power FROM said s
     ORDER BY s.instance_id, s.epoch
        ON CONFLICT (host_id, instance_id, epoch) DO UPDATE SET
           applied_generation = excluded.applied_generation, power = excluded.power
     WHERE (g.applied_generation, g.power) IS DISTINCT FROM (excluded.applied_generation, excluded.power);
    RETURN true;
END $$;
