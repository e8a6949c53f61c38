-- The one commit path anew: quotas, editions of hosts, names that change, and the version before each change.
-- What is not said here is as in 0002. Source: MECHANICS A.
-- Each statement costs some 20 to 50 microseconds even if it finds nothing to do, so what no item needs is left out.

DROP FUNCTION commit_items, lock_rows, write_hosts, write_claims, write_catalog, write_operations, write_instances,
    roomless_items, refused_items;
DROP TYPE instance_write, host_write, verdict, changed;

CREATE TYPE instance_write AS (
    item integer, id uuid, expected bigint, project_id text, name text, state smallint, task smallint, power smallint,
    host_id text, flavor_id text, image_id text, generation bigint, epoch bigint, attempt bigint,
    excluded_host_ids text[], deleted boolean, vcpus bigint, memory_mib bigint, disk_gib bigint,
    adds_claim boolean, wants boolean, wanted bytea, body bytea
);
-- expected is the edition that the writer saw, 0 to insert.
CREATE TYPE host_write AS (
    item integer, id text, expected bigint, machine_id text, boot_id text, state smallint, incarnation bigint,
    target_vcpus bigint, target_memory_mib bigint, target_disk_gib bigint, body bytea
);
-- expected is the version that the writer saw, 0 where the project is not known or deleted. Limits are its own, or null.
CREATE TYPE project_write AS (
    item integer, id text, expected bigint, limit_instances bigint, limit_vcpus bigint, limit_memory_mib bigint,
    limit_disk_gib bigint, deleted boolean, body bytea
);
-- A project whose use or row may change, and what new instances of the whole batch would add to its use.
CREATE TYPE project_share AS (
    id text, instances bigint, vcpus bigint, memory_mib bigint, disk_gib bigint
);
-- For NO_QUOTA resource_id is the project, ledger its version, own limits and use as they were then, body its row's.
CREATE TYPE verdict AS (
    item integer, reason text, resource_id text, operation_id text, ledger bigint[], body bytea
);
-- body is given for hosts only: the writer has the others.
CREATE TYPE changed AS (
    kind smallint, id text, version bigint, revision bigint, epoch bigint, body bytea, ledger bigint[],
    before bytea, before_revision bigint, before_epoch bigint, before_ledger bigint[]
);

-- Locks projects, making the missing, and adds what new instances would use; tells those that are above a limit then.
-- What is refused afterwards is taken off again by release_shares.
CREATE FUNCTION add_shares(shares project_share[], usual bigint[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    overdrawn text[];
BEGIN
    WITH added AS (
        -- One statement in the order of ids: whoever meets a row that another makes waits for it in its turn.
        INSERT INTO project AS p (id, used_instances, used_vcpus, used_memory_mib, used_disk_gib)
        SELECT s.id, s.instances, s.vcpus, s.memory_mib, s.disk_gib FROM unnest(shares) s ORDER BY s.id
            ON CONFLICT (id) DO UPDATE SET
               used_instances = p.used_instances + excluded.used_instances,
               used_vcpus = p.used_vcpus + excluded.used_vcpus,
               used_memory_mib = p.used_memory_mib + excluded.used_memory_mib,
               used_disk_gib = p.used_disk_gib + excluded.used_disk_gib
         WHERE excluded.used_instances > 0
        RETURNING p.*
    )
    SELECT array_agg(a.id) INTO overdrawn FROM added a
     WHERE a.used_instances > CASE WHEN coalesce(a.limit_instances, usual[1]) >= 0
                                   THEN coalesce(a.limit_instances, usual[1]) ELSE a.used_instances END
        OR a.used_vcpus > CASE WHEN coalesce(a.limit_vcpus, usual[2]) >= 0
                               THEN coalesce(a.limit_vcpus, usual[2]) ELSE a.used_vcpus END
        OR a.used_memory_mib > CASE WHEN coalesce(a.limit_memory_mib, usual[3]) >= 0
                                    THEN coalesce(a.limit_memory_mib, usual[3]) ELSE a.used_memory_mib END
        OR a.used_disk_gib > CASE WHEN coalesce(a.limit_disk_gib, usual[4]) >= 0
                                  THEN coalesce(a.limit_disk_gib, usual[4]) ELSE a.used_disk_gib END;
    RETURN overdrawn;
END $$;

-- New instances that pass a limit beside those before them, of projects that are above one with all of them: per project
-- the first such, and all after it that would not fit in its place either. Called again without these until all fit.
CREATE FUNCTION overdrawn_items(
    instances instance_write[], refused integer[], shares project_share[], overdrawn text[], usual bigint[]
) RETURNS SETOF verdict LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH account AS (
        SELECT p.id, p.version, p.body,
               ARRAY[p.limit_instances, p.limit_vcpus, p.limit_memory_mib, p.limit_disk_gib] AS own,
               coalesce(p.limit_instances, usual[1]) AS max_instances, coalesce(p.limit_vcpus, usual[2]) AS max_vcpus,
               coalesce(p.limit_memory_mib, usual[3]) AS max_memory_mib, coalesce(p.limit_disk_gib, usual[4]) AS max_disk_gib,
               p.used_instances - s.instances AS instances, p.used_vcpus - s.vcpus AS vcpus,
               p.used_memory_mib - s.memory_mib AS memory_mib, p.used_disk_gib - s.disk_gib AS disk_gib
          FROM project p JOIN unnest(shares) s ON s.id = p.id WHERE p.id = ANY (overdrawn)
    ), asked AS (
        SELECT w.item, w.project_id, w.vcpus, w.memory_mib, w.disk_gib,
               a.instances + count(*) OVER so_far - 1 AS before_instances,
               a.vcpus + sum(w.vcpus) OVER so_far - w.vcpus AS before_vcpus,
               a.memory_mib + sum(w.memory_mib) OVER so_far - w.memory_mib AS before_memory_mib,
               a.disk_gib + sum(w.disk_gib) OVER so_far - w.disk_gib AS before_disk_gib
          FROM unnest(instances) w JOIN account a ON a.id = w.project_id
         WHERE w.expected = 0 AND NOT w.deleted AND w.item <> ALL (refused)
        WINDOW so_far AS (PARTITION BY w.project_id ORDER BY w.item)
    ), first_too_much AS (
        SELECT DISTINCT ON (t.project_id) t.* FROM asked t JOIN account a ON a.id = t.project_id
         WHERE a.max_instances >= 0 AND t.before_instances + 1 > a.max_instances
            OR a.max_vcpus >= 0 AND t.before_vcpus + t.vcpus > a.max_vcpus
            OR a.max_memory_mib >= 0 AND t.before_memory_mib + t.memory_mib > a.max_memory_mib
            OR a.max_disk_gib >= 0 AND t.before_disk_gib + t.disk_gib > a.max_disk_gib
         ORDER BY t.project_id, t.item
    )
    SELECT t.item, 'NO_QUOTA', a.id, NULL::text,
           ARRAY[a.version] || a.own
               || ARRAY[f.before_instances, f.before_vcpus, f.before_memory_mib, f.before_disk_gib]::bigint[],
           a.body
      FROM asked t JOIN first_too_much f ON f.project_id = t.project_id AND t.item >= f.item
      JOIN account a ON a.id = t.project_id
     WHERE a.max_instances >= 0 AND f.before_instances + 1 > a.max_instances
        OR a.max_vcpus >= 0 AND f.before_vcpus + t.vcpus > a.max_vcpus
        OR a.max_memory_mib >= 0 AND f.before_memory_mib + t.memory_mib > a.max_memory_mib
        OR a.max_disk_gib >= 0 AND f.before_disk_gib + t.disk_gib > a.max_disk_gib;
END $$;

-- Takes off the use of projects what was added for items that were refused, and what instances had that end now.
CREATE FUNCTION release_shares(instances instance_write[], refused integer[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE project p SET
           used_instances = p.used_instances - s.instances, used_vcpus = p.used_vcpus - s.vcpus,
           used_memory_mib = p.used_memory_mib - s.memory_mib, used_disk_gib = p.used_disk_gib - s.disk_gib
      FROM (SELECT o.project_id, count(*) AS instances, sum(o.vcpus) AS vcpus, sum(o.memory_mib) AS memory_mib,
                   sum(o.disk_gib) AS disk_gib
              FROM (SELECT w.project_id, w.vcpus, w.memory_mib, w.disk_gib FROM unnest(instances) w
                     WHERE w.expected = 0 AND NOT w.deleted AND w.item = ANY (refused)
                    UNION ALL
                    SELECT i.project_id, i.vcpus, i.memory_mib, i.disk_gib
                      FROM unnest(instances) w JOIN instance i ON i.id = w.id
                     WHERE w.deleted AND NOT i.deleted AND w.item <> ALL (refused)) o
             GROUP BY o.project_id) s
     WHERE p.id = s.project_id;
END $$;

-- Which items may not be committed, and why; room and quotas are decided apart. Of several items of one batch for the same
-- thing only the first may be committed; the others are STALE, and the next batch finds out what they are beside the first.
CREATE FUNCTION refused_items(
    requests request_write[], instances instance_write[], operations operation_write[], claims claim_write[],
    hosts host_write[], entries catalog_write[], projects project_write[], shares project_share[]
) RETURNS SETOF verdict LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(projects) > 0 THEN
        RETURN QUERY SELECT w.item,
               CASE WHEN w.place > 1 OR w.expected <> CASE WHEN p.deleted THEN 0 ELSE p.version END
                         OR w.deleted AND s.instances > 0 THEN 'STALE' ELSE 'NOT_EMPTY' END,
               w.id, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY item) AS place FROM unnest(projects)) w
          JOIN project p ON p.id = w.id
          JOIN unnest(shares) s ON s.id = w.id
         WHERE w.place > 1 OR w.expected <> CASE WHEN p.deleted THEN 0 ELSE p.version END
            OR w.deleted AND p.used_instances > 0;
    END IF;
    IF cardinality(instances) > 0 THEN
        RETURN QUERY SELECT l.item, CASE WHEN l.taken_by IS NULL THEN 'STALE' ELSE 'NAME_TAKEN' END, l.taken_by, NULL,
               NULL::bigint[], NULL::bytea
          FROM (SELECT w.item, w.expected, coalesce(i.version, 0) AS version, t.id::text AS taken_by, named.anew,
                       row_number() OVER (PARTITION BY w.id ORDER BY w.item) AS place,
                       row_number() OVER (PARTITION BY w.project_id, w.name, named.anew ORDER BY w.item) AS name_place
                  FROM unnest(instances) w
                  LEFT JOIN instance i ON i.id = w.id
                 CROSS JOIN LATERAL (SELECT i.id IS NULL OR i.name <> w.name AS anew) named
                  -- Asked only where a name is new: most writes keep theirs.
                  LEFT JOIN LATERAL (SELECT o.id FROM instance o
                                      WHERE named.anew AND o.project_id = w.project_id AND o.name = w.name
                                        AND NOT o.deleted AND o.id <> w.id LIMIT 1) t ON true) l
         WHERE l.version <> l.expected OR l.place > 1 OR l.taken_by IS NOT NULL OR l.anew AND l.name_place > 1;
    END IF;
    IF cardinality(operations) > 0 THEN
        RETURN QUERY SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY item) AS place FROM unnest(operations)) w
          LEFT JOIN operation o ON o.id = w.id
         WHERE coalesce(o.version, 0) <> w.expected OR w.place > 1;
    END IF;
    IF cardinality(claims) > 0 THEN
        RETURN QUERY SELECT w.item, 'NO_CLAIM', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM unnest(claims) w LEFT JOIN claim c ON c.instance_id = w.instance_id AND c.epoch = w.epoch
         WHERE w.change <> 1 AND (c.epoch IS NULL OR c.host_id <> w.host_id)
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT item, row_number() OVER (PARTITION BY instance_id, epoch ORDER BY item) AS place
                  FROM unnest(claims) WHERE change IN (2, 3)) w WHERE w.place > 1
        UNION ALL
        SELECT w.item, CASE WHEN h.incarnation <> w.incarnation THEN 'SUPERSEDED' ELSE 'DUPLICATE' END, NULL, NULL,
               NULL::bigint[], NULL::bytea
          FROM (SELECT *, row_number() OVER (PARTITION BY instance_id, epoch ORDER BY sequence DESC, item) AS place
                  FROM unnest(claims) WHERE change = 4) w
          JOIN host h ON h.id = w.host_id
          LEFT JOIN claim c ON c.instance_id = w.instance_id AND c.epoch = w.epoch
         WHERE h.incarnation <> w.incarnation OR (c.incarnation, c.sequence) >= (w.incarnation, w.sequence) OR w.place > 1;
    END IF;
    IF cardinality(hosts) > 0 THEN
        RETURN QUERY SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY item) AS place FROM unnest(hosts)) w
          LEFT JOIN host h ON h.id = w.id
         WHERE coalesce(h.edition, 0) <> w.expected OR w.place > 1;
    END IF;
    IF cardinality(entries) > 0 THEN
        RETURN QUERY SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT *, row_number() OVER (PARTITION BY kind, id ORDER BY item) AS place FROM unnest(entries)) w
          LEFT JOIN catalog e ON e.kind = w.kind AND e.id = w.id
         WHERE coalesce(e.version, 0) <> w.expected OR w.place > 1
        UNION ALL
        SELECT w.item, 'NAME_TAKEN', e.id::text, NULL, NULL::bigint[], NULL::bytea
          FROM unnest(entries) w
          JOIN catalog e ON e.kind = w.kind AND e.project_id = w.project_id AND e.name = w.name AND NOT e.deleted AND e.id <> w.id
         WHERE w.expected = 0
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT item, row_number() OVER (PARTITION BY kind, project_id, name ORDER BY item) AS place
                  FROM unnest(entries) WHERE expected = 0) w WHERE w.place > 1;
    END IF;
    -- Last, since each statement sees what was committed before it began: who finds a twin's name must find its request.
    IF cardinality(requests) > 0 THEN
        RETURN QUERY SELECT w.item, CASE WHEN r.fingerprint = w.fingerprint THEN 'REPLAYED' ELSE 'REQUEST_ID_REUSED' END,
               r.resource_id, r.operation_id, NULL::bigint[], NULL::bytea
          FROM unnest(requests) w
          JOIN request r USING (project_id, caller, method, request_id)
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT item, row_number() OVER (PARTITION BY project_id, caller, method, request_id ORDER BY item) AS place
                  FROM unnest(requests)) w WHERE w.place > 1;
    END IF;
END $$;

-- Claims that do not fit beside the claims before them: per host the first such, and all after it that would not fit in
-- its place either. Called again without these until all fit; the result is that of taking the claims one by one.
CREATE FUNCTION roomless_items(claims claim_write[], refused integer[]) RETURNS SETOF verdict LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH asked AS (
        SELECT w.*,
               coalesce(h.target_vcpus - h.used_vcpus, -1) AS room_vcpus,
               coalesce(h.target_memory_mib - h.used_memory_mib, -1) AS room_memory_mib,
               coalesce(h.target_disk_gib - h.used_disk_gib, -1) AS room_disk_gib,
               sum(w.vcpus) OVER so_far - w.vcpus AS before_vcpus,
               sum(w.memory_mib) OVER so_far - w.memory_mib AS before_memory_mib,
               sum(w.disk_gib) OVER so_far - w.disk_gib AS before_disk_gib
          FROM unnest(claims) w LEFT JOIN host h ON h.id = w.host_id
         WHERE w.change = 1 AND w.item <> ALL (refused)
        WINDOW so_far AS (PARTITION BY w.host_id ORDER BY w.item)
    ), first_too_much AS (
        SELECT DISTINCT ON (host_id) * FROM asked
         WHERE before_vcpus + vcpus > room_vcpus
            OR before_memory_mib + memory_mib > room_memory_mib
            OR before_disk_gib + disk_gib > room_disk_gib
         ORDER BY host_id, item
    )
    SELECT a.item, 'NO_ROOM', NULL::text, NULL::text, NULL::bigint[], NULL::bytea
      FROM asked a JOIN first_too_much f ON f.host_id = a.host_id AND a.item >= f.item
     WHERE f.before_vcpus + a.vcpus > a.room_vcpus
        OR f.before_memory_mib + a.memory_mib > a.room_memory_mib
        OR f.before_disk_gib + a.disk_gib > a.room_disk_gib;
END $$;

-- The functions that write tell what they changed. Each logs and writes in one statement, which sees its rows as they were.

-- first is the revision before the first of these instances.
CREATE FUNCTION write_instances(instances instance_write[], refused integer[], first bigint) RETURNS changed[]
LANGUAGE plpgsql AS $$
DECLARE
    changes changed[];
BEGIN
    WITH numbered AS (
        SELECT w.*, first + row_number() OVER (ORDER BY w.item, w.id) AS revision
          FROM unnest(instances) w WHERE w.item <> ALL (refused)
    ), logged AS (
        INSERT INTO change AS c (revision, kind, id, project_id, version, epoch, deleted, public, moved_from, body,
                                 before, before_revision, before_epoch)
        SELECT w.revision, 1, w.id::text, w.project_id, w.expected + 1,
               CASE WHEN w.adds_claim THEN w.revision ELSE w.epoch END, w.deleted, false,
               CASE WHEN NOT i.deleted AND (w.deleted OR w.name <> i.name) THEN i.name END, w.body,
               i.body, i.revision, i.epoch
          FROM numbered w LEFT JOIN instance i ON i.id = w.id
        RETURNING c.id, c.version, c.revision, c.epoch, c.before, c.before_revision, c.before_epoch
    ), written AS (
        INSERT INTO instance (id, project_id, name, state, task, power, host_id, flavor_id, image_id, generation, epoch,
                              attempt, excluded_host_ids, deleted, vcpus, memory_mib, disk_gib, version, revision, wanted, body)
        SELECT w.id, w.project_id, w.name, w.state, w.task, w.power, w.host_id, w.flavor_id, w.image_id, w.generation,
               CASE WHEN w.adds_claim THEN w.revision ELSE w.epoch END,
               w.attempt, w.excluded_host_ids, w.deleted, w.vcpus, w.memory_mib, w.disk_gib, w.expected + 1, w.revision,
               w.wanted, w.body
          FROM numbered w
            ON CONFLICT (id) DO UPDATE SET
               name = excluded.name, state = excluded.state, task = excluded.task, power = excluded.power,
               host_id = excluded.host_id, generation = excluded.generation, epoch = excluded.epoch,
               attempt = excluded.attempt, excluded_host_ids = excluded.excluded_host_ids, deleted = excluded.deleted,
               version = excluded.version, revision = excluded.revision, wanted = excluded.wanted, body = excluded.body
    )
    SELECT array_agg(ROW (1, id, version, revision, epoch, NULL, NULL, before, before_revision, before_epoch, NULL)::changed)
      INTO changes FROM logged;
    IF EXISTS (SELECT FROM unnest(instances) WHERE wants AND expected > 0) THEN
        UPDATE claim SET wanted_revision = i.revision
          FROM unnest(instances) w JOIN instance i ON i.id = w.id
         WHERE w.wants AND w.item <> ALL (refused) AND claim.instance_id = w.id;
    END IF;
    RETURN changes;
END $$;

CREATE FUNCTION write_operations(operations operation_write[], refused integer[], first bigint) RETURNS changed[]
LANGUAGE plpgsql AS $$
DECLARE
    changes changed[];
BEGIN
    -- Ends before beginnings, so that one item can put an operation in another's place.
    WITH numbered AS (
        SELECT w.*, first + row_number() OVER (ORDER BY w.item, w.id) AS revision
          FROM unnest(operations) w WHERE w.item <> ALL (refused)
    ), logged AS (
        INSERT INTO change AS c (revision, kind, id, project_id, version, epoch, deleted, public, body,
                                 before, before_revision, before_epoch)
        SELECT w.revision, 2, w.id::text, w.project_id, w.expected + 1, 0, false, false, w.body, o.body, o.revision, 0
          FROM numbered w LEFT JOIN operation o ON o.id = w.id
        RETURNING c.id, c.version, c.revision, c.before, c.before_revision
    ), moved AS (
        UPDATE operation o SET state = w.state, phase = w.phase, tries = w.tries, finished = w.finished, looks = 0,
               look_again_at = now() + make_interval(secs => w.look_again_s), version = w.expected + 1,
               revision = w.revision, body = w.body
          FROM numbered w WHERE o.id = w.id AND w.expected > 0
    )
    SELECT array_agg(ROW (2, id, version, revision, 0, NULL, NULL, before, before_revision, 0, NULL)::changed)
      INTO changes FROM logged;
    IF EXISTS (SELECT FROM unnest(operations) WHERE expected = 0) THEN
        INSERT INTO operation (id, project_id, resource_id, action, state, phase, tries, finished, look_again_at,
                               version, revision, body)
        SELECT w.id, w.project_id, w.resource_id, w.action, w.state, w.phase, w.tries, w.finished,
               now() + make_interval(secs => w.look_again_s), 1, w.revision, w.body
          FROM (SELECT o.*, first + row_number() OVER (ORDER BY o.item, o.id) AS revision
                  FROM unnest(operations) o WHERE o.item <> ALL (refused)) w
         WHERE w.expected = 0;
    END IF;
    RETURN changes;
END $$;

CREATE FUNCTION write_catalog(entries catalog_write[], refused integer[], first bigint) RETURNS changed[]
LANGUAGE plpgsql AS $$
DECLARE
    changes changed[];
BEGIN
    WITH numbered AS (
        SELECT w.*, first + row_number() OVER (ORDER BY w.item, w.id) AS revision
          FROM unnest(entries) w WHERE w.item <> ALL (refused)
    ), logged AS (
        INSERT INTO change AS c (revision, kind, id, project_id, version, epoch, deleted, public, moved_from, body,
                                 before, before_revision, before_epoch)
        SELECT w.revision, w.kind, w.id::text, w.project_id, w.expected + 1, 0, w.deleted, w.public,
               CASE WHEN NOT e.deleted AND w.deleted THEN e.name END, w.body, e.body, e.revision, 0
          FROM numbered w LEFT JOIN catalog e ON e.kind = w.kind AND e.id = w.id
        RETURNING c.kind, c.id, c.version, c.revision, c.before, c.before_revision
    ), written AS (
        INSERT INTO catalog (kind, id, project_id, name, digest, public, deleted, version, revision, body)
        SELECT w.kind, w.id, w.project_id, w.name, w.digest, w.public, w.deleted, w.expected + 1, w.revision, w.body
          FROM numbered w
            ON CONFLICT (kind, id) DO UPDATE SET
               deleted = excluded.deleted, version = excluded.version, revision = excluded.revision, body = excluded.body
    )
    SELECT array_agg(ROW (kind, id, version, revision, 0, NULL, NULL, before, before_revision, 0, NULL)::changed)
      INTO changes FROM logged;
    RETURN changes;
END $$;

-- A project that ends gives up its own limits. One that is made again goes on counting, with nothing before.
CREATE FUNCTION write_projects(projects project_write[], refused integer[], first bigint) RETURNS changed[]
LANGUAGE plpgsql AS $$
DECLARE
    changes changed[];
BEGIN
    WITH numbered AS (
        SELECT w.*, first + row_number() OVER (ORDER BY w.item, w.id) AS revision
          FROM unnest(projects) w WHERE w.item <> ALL (refused)
    ), written AS (
        UPDATE project p SET
               limit_instances = CASE WHEN NOT w.deleted THEN w.limit_instances END,
               limit_vcpus = CASE WHEN NOT w.deleted THEN w.limit_vcpus END,
               limit_memory_mib = CASE WHEN NOT w.deleted THEN w.limit_memory_mib END,
               limit_disk_gib = CASE WHEN NOT w.deleted THEN w.limit_disk_gib END,
               deleted = w.deleted, version = p.version + 1, revision = w.revision, body = w.body
          FROM numbered w JOIN project o ON o.id = w.id
         WHERE p.id = w.id
        RETURNING p.*, w.expected, o.body AS before, o.revision AS before_revision,
                  ARRAY[o.limit_instances, o.limit_vcpus, o.limit_memory_mib, o.limit_disk_gib,
                        o.used_instances, o.used_vcpus, o.used_memory_mib, o.used_disk_gib] AS before_ledger
    ), logged AS (
        INSERT INTO change AS c (revision, kind, id, project_id, version, epoch, deleted, public, moved_from, ledger, body,
                                 before, before_revision, before_epoch, before_ledger)
        SELECT w.revision, 6, w.id, w.id, w.version, 0, w.deleted, false, CASE WHEN w.deleted THEN w.id END,
               ARRAY[w.limit_instances, w.limit_vcpus, w.limit_memory_mib, w.limit_disk_gib,
                     w.used_instances, w.used_vcpus, w.used_memory_mib, w.used_disk_gib], w.body,
               CASE WHEN w.expected > 0 THEN w.before END, CASE WHEN w.expected > 0 THEN w.before_revision END,
               CASE WHEN w.expected > 0 THEN 0 END, CASE WHEN w.expected > 0 THEN w.before_ledger END
          FROM written w
        RETURNING c.*
    )
    SELECT array_agg(ROW (6, id, version, revision, 0, NULL, ledger, before, before_revision, 0, before_ledger)::changed)
      INTO changes FROM logged;
    RETURN changes;
END $$;

-- Writes claims; acts are the kinds of change among them. Epochs come from the instances, which are written before.
CREATE FUNCTION write_claims(claims claim_write[], refused integer[], acts smallint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF 1 = ANY (acts) THEN
        INSERT INTO claim (instance_id, epoch, host_id, role, vcpus, memory_mib, disk_gib, wanted_revision)
        SELECT w.instance_id, i.epoch, w.host_id, w.role, w.vcpus, w.memory_mib, w.disk_gib, i.epoch
          FROM unnest(claims) w JOIN instance i ON i.id = w.instance_id
         WHERE w.change = 1 AND w.item <> ALL (refused);
    END IF;
    IF 2 = ANY (acts) THEN
        UPDATE claim c SET role = w.role, wanted_revision = (SELECT revision FROM counter)
          FROM unnest(claims) w
         WHERE w.change = 2 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
    END IF;
    IF 3 = ANY (acts) THEN
        DELETE FROM claim c USING unnest(claims) w
         WHERE w.change = 3 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
    END IF;
    IF 4 = ANY (acts) THEN
        UPDATE claim c SET incarnation = w.incarnation, sequence = w.sequence
          FROM unnest(claims) w
         WHERE w.change = 4 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
    END IF;
END $$;

-- Writes what hosts and admins say of hosts, and brings the ledger of every touched host up to its claims, before these are
-- written.
CREATE FUNCTION write_hosts(
    hosts host_write[], claims claim_write[], refused integer[], touched text[], first bigint
) RETURNS changed[] LANGUAGE plpgsql AS $$
DECLARE
    changes changed[];
BEGIN
    IF cardinality(hosts) > 0 THEN
        -- To greet is to beat: a new incarnation is never found without its lease. In the order in which beats lock.
        INSERT INTO lease (host_id, incarnation, beat_at)
        SELECT w.id, w.incarnation, now() FROM unnest(hosts) w LEFT JOIN host h ON h.id = w.id
         WHERE w.item <> ALL (refused) AND w.incarnation IS DISTINCT FROM h.incarnation ORDER BY w.id
            ON CONFLICT (host_id) DO UPDATE SET incarnation = excluded.incarnation, beat_at = excluded.beat_at;
        -- Not ON CONFLICT: of two that greet first for a host at once the second must fail, not follow.
        INSERT INTO host (id, machine_id, boot_id, state, incarnation, target_vcpus, target_memory_mib, target_disk_gib,
                          ceiling_vcpus, ceiling_memory_mib, ceiling_disk_gib, version, revision, body)
        SELECT id, machine_id, boot_id, state, incarnation, target_vcpus, target_memory_mib, target_disk_gib,
               target_vcpus, target_memory_mib, target_disk_gib, 0, 0, body
          FROM unnest(hosts) WHERE item <> ALL (refused) AND expected = 0;
        UPDATE host h SET
               machine_id = w.machine_id, boot_id = w.boot_id, state = w.state, incarnation = w.incarnation,
               edition = h.edition + 1,
               target_vcpus = w.target_vcpus, target_memory_mib = w.target_memory_mib, target_disk_gib = w.target_disk_gib,
               ceiling_vcpus = greatest(w.target_vcpus, h.used_vcpus),
               ceiling_memory_mib = greatest(w.target_memory_mib, h.used_memory_mib),
               ceiling_disk_gib = greatest(w.target_disk_gib, h.used_disk_gib)
          FROM unnest(hosts) w WHERE w.item <> ALL (refused) AND w.expected > 0 AND h.id = w.id;
    END IF;
    WITH asked AS (
        SELECT host_id, vcpus, memory_mib, disk_gib, 1 AS claim_count
          FROM unnest(claims) WHERE change = 1 AND item <> ALL (refused)
        UNION ALL
        SELECT c.host_id, -c.vcpus, -c.memory_mib, -c.disk_gib, -1
          FROM unnest(claims) w JOIN claim c ON c.instance_id = w.instance_id AND c.epoch = w.epoch
         WHERE w.change = 3 AND w.item <> ALL (refused)
    ), delta AS (
        SELECT t.id, t.place, coalesce(sum(a.vcpus), 0) AS vcpus, coalesce(sum(a.memory_mib), 0) AS memory_mib,
               coalesce(sum(a.disk_gib), 0) AS disk_gib, coalesce(sum(a.claim_count), 0) AS claim_count
          FROM unnest(touched) WITH ORDINALITY AS t (id, place)
          LEFT JOIN asked a ON a.host_id = t.id
         GROUP BY t.id, t.place
    ), written AS (
        UPDATE host h SET
               used_vcpus = h.used_vcpus + d.vcpus,
               used_memory_mib = h.used_memory_mib + d.memory_mib,
               used_disk_gib = h.used_disk_gib + d.disk_gib,
               -- A release or a smaller target lowers the ceiling; a claim never raises it.
               ceiling_vcpus = CASE WHEN d.vcpus > 0 THEN h.ceiling_vcpus
                                    ELSE greatest(h.target_vcpus, h.used_vcpus + d.vcpus) END,
               ceiling_memory_mib = CASE WHEN d.memory_mib > 0 THEN h.ceiling_memory_mib
                                         ELSE greatest(h.target_memory_mib, h.used_memory_mib + d.memory_mib) END,
               ceiling_disk_gib = CASE WHEN d.disk_gib > 0 THEN h.ceiling_disk_gib
                                       ELSE greatest(h.target_disk_gib, h.used_disk_gib + d.disk_gib) END,
               claim_count = h.claim_count + d.claim_count,
               version = h.version + 1,
               revision = first + d.place,
               body = coalesce(w.body, h.body)
          FROM delta d JOIN host o ON o.id = d.id
          LEFT JOIN unnest(hosts) w ON w.id = d.id AND w.item <> ALL (refused)
         WHERE h.id = d.id
        RETURNING h.*, o.body AS before, nullif(o.revision, 0) AS before_revision,
                  ARRAY[o.target_vcpus, o.target_memory_mib, o.target_disk_gib,
                        o.used_vcpus, o.used_memory_mib, o.used_disk_gib, o.claim_count] AS before_ledger
    ), logged AS (
        INSERT INTO change AS c (revision, kind, id, project_id, version, epoch, deleted, public, ledger, body,
                                 before, before_revision, before_epoch, before_ledger)
        SELECT w.revision, 5, w.id, '', w.version, 0, false, false,
               ARRAY[w.target_vcpus, w.target_memory_mib, w.target_disk_gib,
                     w.used_vcpus, w.used_memory_mib, w.used_disk_gib, w.claim_count], w.body,
               CASE WHEN w.version > 1 THEN w.before END, w.before_revision, CASE WHEN w.version > 1 THEN 0 END,
               CASE WHEN w.version > 1 THEN w.before_ledger END
          FROM written w
        RETURNING c.*
    )
    SELECT array_agg(ROW (5, id, version, revision, 0, body, ledger, before, before_revision, 0, before_ledger)::changed)
      INTO changes FROM logged;
    RETURN changes;
END $$;

-- In the global order, after the projects: hosts, instances, claims, operations, catalog. What is alone and new has no rows.
CREATE FUNCTION lock_rows(
    instances instance_write[], operations operation_write[], claims claim_write[], hosts host_write[],
    entries catalog_write[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(claims) > 0 OR cardinality(hosts) > 0 THEN
        PERFORM 1 FROM host
          WHERE id IN (SELECT host_id FROM unnest(claims) UNION SELECT id FROM unnest(hosts)) ORDER BY id FOR UPDATE;
    END IF;
    IF cardinality(instances) > 1 OR (instances[1]).expected > 0 THEN
        PERFORM 1 FROM instance WHERE id IN (SELECT id FROM unnest(instances)) ORDER BY id FOR UPDATE;
    END IF;
    IF cardinality(claims) > 0 OR cardinality(instances) > 1 OR (instances[1]).expected > 0 THEN
        PERFORM 1 FROM claim
          WHERE instance_id IN (SELECT instance_id FROM unnest(claims) UNION SELECT id FROM unnest(instances))
          ORDER BY instance_id, epoch FOR UPDATE;
    END IF;
    IF cardinality(operations) > 1 OR (operations[1]).expected > 0 THEN
        PERFORM 1 FROM operation WHERE id IN (SELECT id FROM unnest(operations)) ORDER BY id FOR UPDATE;
    END IF;
    IF cardinality(entries) > 0 THEN
        PERFORM 1 FROM catalog WHERE (kind, id) IN (SELECT kind, id FROM unnest(entries)) ORDER BY kind, id FOR UPDATE;
    END IF;
END $$;

-- usual: the cloud's limits for projects without their own; of instances, vCPUs, MiB, GiB; -1 is none.
CREATE FUNCTION commit_items(
    requests request_write[], instances instance_write[], operations operation_write[], claims claim_write[],
    hosts host_write[], entries catalog_write[], projects project_write[], shares project_share[], usual bigint[],
    OUT verdicts verdict[], OUT changes changed[]
) LANGUAGE plpgsql AS $$
DECLARE
    refused integer[] := '{}';
    overdrawn text[];
    too_much verdict[];
    acts smallint[] := '{}';
    touched text[] := '{}';
    counts bigint[];
    total bigint;
    first bigint;
BEGIN
    IF cardinality(shares) > 0 THEN
        overdrawn := add_shares(shares, usual);
    END IF;
    IF cardinality(claims) > 0 THEN
        acts := ARRAY(SELECT DISTINCT change FROM unnest(claims));
    END IF;
    PERFORM lock_rows(instances, operations, claims, hosts, entries);
    verdicts := coalesce(
        (SELECT array_agg(v)
           FROM refused_items(requests, instances, operations, claims, hosts, entries, projects, shares) v),
        ARRAY[]::verdict[]);
    LOOP
        IF cardinality(verdicts) > 0 THEN
            refused := ARRAY(SELECT DISTINCT v.item FROM unnest(verdicts) v);
        END IF;
        too_much := '{}';
        IF overdrawn IS NOT NULL THEN
            too_much := ARRAY(SELECT v FROM overdrawn_items(instances, refused, shares, overdrawn, usual) v);
        END IF;
        -- What is refused for its quota must not take room from others: room is looked at when quotas are settled.
        IF cardinality(too_much) = 0 AND 1 = ANY (acts) THEN
            too_much := ARRAY(SELECT v FROM roomless_items(claims, refused) v);
        END IF;
        EXIT WHEN cardinality(too_much) = 0;
        verdicts := verdicts || too_much;
    END LOOP;

    IF cardinality(claims) > 0 OR cardinality(hosts) > 0 THEN
        touched := ARRAY(
            SELECT host_id FROM unnest(claims) WHERE change IN (1, 3) AND item <> ALL (refused)
            UNION SELECT id FROM unnest(hosts) WHERE item <> ALL (refused) ORDER BY 1);
    END IF;
    IF cardinality(refused) = 0 THEN
        counts := ARRAY[cardinality(instances), cardinality(operations), cardinality(entries), cardinality(touched),
                        cardinality(projects)];
    ELSE
        counts := ARRAY[
            (SELECT count(*) FROM unnest(instances) WHERE item <> ALL (refused)),
            (SELECT count(*) FROM unnest(operations) WHERE item <> ALL (refused)),
            (SELECT count(*) FROM unnest(entries) WHERE item <> ALL (refused)),
            cardinality(touched),
            (SELECT count(*) FROM unnest(projects) WHERE item <> ALL (refused))];
    END IF;
    total := counts[1] + counts[2] + counts[3] + counts[4] + counts[5];
    IF total > 0 THEN
        UPDATE counter SET revision = counter.revision + total RETURNING counter.revision - total INTO first;
    END IF;

    changes := ARRAY[]::changed[];
    IF cardinality(requests) > 0 THEN
        INSERT INTO request (project_id, caller, method, request_id, fingerprint, resource_id, operation_id)
        SELECT project_id, caller, method, request_id, fingerprint, resource_id, operation_id
          FROM unnest(requests) WHERE item <> ALL (refused);
    END IF;
    IF cardinality(shares) > 0 THEN
        IF cardinality(refused) > 0 OR EXISTS (SELECT FROM unnest(instances) WHERE deleted) THEN
            PERFORM release_shares(instances, refused);
        END IF;
    END IF;
    IF counts[1] > 0 THEN
        changes := changes || write_instances(instances, refused, first);
    END IF;
    IF counts[2] > 0 THEN
        changes := changes || write_operations(operations, refused, first + counts[1]);
    END IF;
    IF counts[3] > 0 THEN
        changes := changes || write_catalog(entries, refused, first + counts[1] + counts[2]);
    END IF;
    IF counts[4] > 0 THEN
        changes := changes || write_hosts(hosts, claims, refused, touched, first + counts[1] + counts[2] + counts[3]);
    END IF;
    IF counts[5] > 0 THEN
        changes := changes || write_projects(projects, refused, first + counts[1] + counts[2] + counts[3] + counts[4]);
    END IF;
    IF cardinality(claims) > 0 THEN
        PERFORM write_claims(claims, refused, acts);
    END IF;
END $$;

-- What commit_items would answer: everything that it did is undone.
CREATE FUNCTION check_items(
    requests request_write[], instances instance_write[], operations operation_write[], claims claim_write[],
    hosts host_write[], entries catalog_write[], projects project_write[], shares project_share[], usual bigint[],
    OUT verdicts verdict[], OUT changes changed[]
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT c.verdicts, c.changes INTO verdicts, changes
      FROM commit_items(requests, instances, operations, claims, hosts, entries, projects, shares, usual) c;
    RAISE EXCEPTION USING ERRCODE = 'ST001';
EXCEPTION WHEN SQLSTATE 'ST001' THEN
    RETURN;
END $$;

-- The history that this database is of. Where it is not the one that was written, by a restore or a promotion, a new one
-- begins, far above all revisions that were ever given in the old one. Source: MECHANICS E3.
CREATE FUNCTION follow_history(width bigint, OUT history text, OUT anew boolean) LANGUAGE plpgsql AS $$
DECLARE
    known cloud;
    here bigint := (SELECT system_identifier FROM pg_control_system());
    line bigint := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint;
BEGIN
    anew := false;
    SELECT * INTO known FROM cloud;
    history := known.history_id;
    IF NOT FOUND OR known.system_identifier = here AND known.timeline = line THEN
        RETURN;
    END IF;
    SELECT * INTO known FROM cloud FOR UPDATE;
    history := known.history_id;
    IF known.system_identifier = here AND known.timeline = line THEN
        RETURN;
    END IF;
    IF known.system_identifier IS NOT NULL THEN
        anew := true;
        history := gen_random_uuid()::text;
        UPDATE counter SET revision = revision + (1::bigint << 40);
        UPDATE compaction SET revision = (SELECT revision FROM counter);
        PERFORM log_ahead(width);
    END IF;
    UPDATE cloud SET history_id = history, system_identifier = here, timeline = line;
END $$;
