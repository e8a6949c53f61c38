-- The one commit path: every write that a client can see is an item of commit_items.
-- It locks rows in one global order, decides per item, takes the revision counter once, writes. Source: MECHANICS A.

CREATE TYPE request_write AS (
    item integer, project_id text, caller text, method text, request_id uuid, fingerprint bytea,
    resource_id text, operation_id text
);
-- expected is the version that the writer saw, 0 to insert. adds_claim: its new epoch is the revision of this change.
-- wants: what is wanted of the instance changed with this write.
CREATE TYPE instance_write AS (
    item integer, id uuid, expected bigint, project_id text, name text, state smallint, task smallint, power smallint,
    host_id text, flavor_id text, image_id text, generation bigint, epoch bigint, attempt bigint,
    excluded_host_ids text[], deleted boolean, adds_claim boolean, wants boolean,
    wanted bytea, body bytea
);
CREATE TYPE operation_write AS (
    item integer, id uuid, expected bigint, project_id text, resource_id text, action smallint, state smallint,
    phase smallint, tries integer, finished boolean, look_again_s double precision, body bytea
);
-- change: 1 adds a claim (its epoch is the revision of its instance's change), 2 makes it LEAVING, 3 removes it,
-- 4 records the number of an observation.
CREATE TYPE claim_write AS (
    item integer, change smallint, instance_id uuid, epoch bigint, host_id text, role smallint,
    vcpus bigint, memory_mib bigint, disk_gib bigint, incarnation bigint, sequence bigint
);
-- expected is the incarnation that the writer saw, 0 to insert.
CREATE TYPE host_write AS (
    item integer, id text, expected bigint, machine_id text, boot_id text, state smallint, incarnation bigint,
    target_vcpus bigint, target_memory_mib bigint, target_disk_gib bigint, body bytea
);
CREATE TYPE catalog_write AS (
    item integer, kind smallint, id uuid, expected bigint, project_id text, name text, digest text, public boolean,
    deleted boolean, body bytea
);
CREATE TYPE verdict AS (item integer, reason text, resource_id text, operation_id text);
-- body and ledger are given for hosts only: the writer has the others.
CREATE TYPE changed AS (
    kind smallint, id text, version bigint, revision bigint, epoch bigint, body bytea, ledger bigint[]
);

-- Which items may not be committed, and why; room is decided apart. Of several items of one batch for the same thing only
-- the first may be committed; the others are STALE, and the next batch finds out what they are beside the first.
CREATE FUNCTION refused_items(
    requests request_write[], instances instance_write[], operations operation_write[], claims claim_write[],
    hosts host_write[], entries catalog_write[]
) RETURNS SETOF verdict LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(instances) > 0 THEN
        RETURN QUERY SELECT w.item, 'STALE', NULL, NULL
          FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY item) AS place FROM unnest(instances)) w
          LEFT JOIN instance i ON i.id = w.id
         WHERE coalesce(i.version, 0) <> w.expected OR w.place > 1
        UNION ALL
        SELECT w.item, 'NAME_TAKEN', i.id::text, NULL
          FROM unnest(instances) w
          JOIN instance i ON i.project_id = w.project_id AND i.name = w.name AND NOT i.deleted AND i.id <> w.id
         WHERE w.expected = 0
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL
          FROM (SELECT item, row_number() OVER (PARTITION BY project_id, name ORDER BY item) AS place
                  FROM unnest(instances) WHERE expected = 0) w WHERE w.place > 1;
    END IF;
    IF cardinality(operations) > 0 THEN
        RETURN QUERY SELECT w.item, 'STALE', NULL, NULL
          FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY item) AS place FROM unnest(operations)) w
          LEFT JOIN operation o ON o.id = w.id
         WHERE coalesce(o.version, 0) <> w.expected OR w.place > 1;
    END IF;
    IF cardinality(claims) > 0 THEN
        RETURN QUERY SELECT w.item, 'NO_CLAIM', NULL, NULL
          FROM unnest(claims) w LEFT JOIN claim c ON c.instance_id = w.instance_id AND c.epoch = w.epoch
         WHERE w.change <> 1 AND (c.epoch IS NULL OR c.host_id <> w.host_id)
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL
          FROM (SELECT item, row_number() OVER (PARTITION BY instance_id, epoch ORDER BY item) AS place
                  FROM unnest(claims) WHERE change IN (2, 3)) w WHERE w.place > 1
        UNION ALL
        SELECT w.item, CASE WHEN h.incarnation <> w.incarnation THEN 'SUPERSEDED' ELSE 'DUPLICATE' END, NULL, NULL
          FROM (SELECT *, row_number() OVER (PARTITION BY instance_id, epoch ORDER BY sequence DESC, item) AS place
                  FROM unnest(claims) WHERE change = 4) w
          JOIN host h ON h.id = w.host_id
          LEFT JOIN claim c ON c.instance_id = w.instance_id AND c.epoch = w.epoch
         WHERE h.incarnation <> w.incarnation OR (c.incarnation, c.sequence) >= (w.incarnation, w.sequence) OR w.place > 1;
    END IF;
    IF cardinality(hosts) > 0 THEN
        RETURN QUERY SELECT w.item, 'STALE', NULL, NULL
          FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY item) AS place FROM unnest(hosts)) w
          LEFT JOIN host h ON h.id = w.id
         WHERE coalesce(h.incarnation, 0) <> w.expected OR w.place > 1;
    END IF;
    IF cardinality(entries) > 0 THEN
        RETURN QUERY SELECT w.item, 'STALE', NULL, NULL
          FROM (SELECT *, row_number() OVER (PARTITION BY kind, id ORDER BY item) AS place FROM unnest(entries)) w
          LEFT JOIN catalog e ON e.kind = w.kind AND e.id = w.id
         WHERE coalesce(e.version, 0) <> w.expected OR w.place > 1
        UNION ALL
        SELECT w.item, 'NAME_TAKEN', e.id::text, NULL
          FROM unnest(entries) w
          JOIN catalog e ON e.kind = w.kind AND e.project_id = w.project_id AND e.name = w.name AND NOT e.deleted AND e.id <> w.id
         WHERE w.expected = 0
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL
          FROM (SELECT item, row_number() OVER (PARTITION BY kind, project_id, name ORDER BY item) AS place
                  FROM unnest(entries) WHERE expected = 0) w WHERE w.place > 1;
    END IF;
    -- Last, since each statement sees what was committed before it began: who finds a twin's name must find its request.
    IF cardinality(requests) > 0 THEN
        RETURN QUERY SELECT w.item, CASE WHEN r.fingerprint = w.fingerprint THEN 'REPLAYED' ELSE 'REQUEST_ID_REUSED' END,
               r.resource_id, r.operation_id
          FROM unnest(requests) w
          JOIN request r USING (project_id, caller, method, request_id)
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL
          FROM (SELECT item, row_number() OVER (PARTITION BY project_id, caller, method, request_id ORDER BY item) AS place
                  FROM unnest(requests)) w WHERE w.place > 1;
    END IF;
END $$;

-- Claims that do not fit beside the claims before them: per host the first such, and all after it that would not fit in
-- its place either. Called again without these until all fit; the result is that of taking the claims one by one.
CREATE FUNCTION roomless_items(claims claim_write[], refused integer[]) RETURNS SETOF verdict LANGUAGE sql AS $$
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
    SELECT a.item, 'NO_ROOM', NULL::text, NULL::text
      FROM asked a JOIN first_too_much f ON f.host_id = a.host_id AND a.item >= f.item
     WHERE f.before_vcpus + a.vcpus > a.room_vcpus
        OR f.before_memory_mib + a.memory_mib > a.room_memory_mib
        OR f.before_disk_gib + a.disk_gib > a.room_disk_gib
$$;

-- Writes instances and their change records; first is the revision before the first of them.
CREATE FUNCTION write_instances(instances instance_write[], refused integer[], first bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO change (revision, kind, id, project_id, version, epoch, deleted, public, before, body)
    SELECT w.revision, 1, w.id::text, w.project_id, w.expected + 1,
           CASE WHEN w.adds_claim THEN w.revision ELSE w.epoch END, w.deleted, false,
           CASE WHEN i.id IS NOT NULL THEN jsonb_build_object(
               'name', i.name, 'state', i.state, 'task', i.task, 'power', i.power, 'host_id', i.host_id) END,
           w.body
      FROM (SELECT *, first + row_number() OVER (ORDER BY item, id) AS revision
              FROM unnest(instances) WHERE item <> ALL (refused)) w
      LEFT JOIN instance i ON i.id = w.id;
    INSERT INTO instance (id, project_id, name, state, task, power, host_id, flavor_id, image_id, generation, epoch,
                          attempt, excluded_host_ids, deleted, version, revision, wanted, body)
    SELECT w.id, w.project_id, w.name, w.state, w.task, w.power, w.host_id, w.flavor_id, w.image_id, w.generation,
           CASE WHEN w.adds_claim THEN w.revision ELSE w.epoch END,
           w.attempt, w.excluded_host_ids, w.deleted, w.expected + 1, w.revision, w.wanted, w.body
      FROM (SELECT *, first + row_number() OVER (ORDER BY item, id) AS revision
              FROM unnest(instances) WHERE item <> ALL (refused)) w
        ON CONFLICT (id) DO UPDATE SET
           state = excluded.state, task = excluded.task, power = excluded.power, host_id = excluded.host_id,
           generation = excluded.generation, epoch = excluded.epoch, attempt = excluded.attempt,
           excluded_host_ids = excluded.excluded_host_ids, deleted = excluded.deleted, version = excluded.version,
           revision = excluded.revision, wanted = excluded.wanted, body = excluded.body;
    UPDATE claim SET wanted_revision = i.revision
      FROM unnest(instances) w JOIN instance i ON i.id = w.id
     WHERE w.wants AND w.item <> ALL (refused) AND claim.instance_id = w.id;
END $$;

CREATE FUNCTION write_operations(operations operation_write[], refused integer[], first bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO change (revision, kind, id, project_id, version, epoch, deleted, public, before, body)
    SELECT w.revision, 2, w.id::text, w.project_id, w.expected + 1, 0, false, false,
           CASE WHEN o.id IS NOT NULL THEN jsonb_build_object('state', o.state, 'phase', o.phase) END, w.body
      FROM (SELECT *, first + row_number() OVER (ORDER BY item, id) AS revision
              FROM unnest(operations) WHERE item <> ALL (refused)) w
      LEFT JOIN operation o ON o.id = w.id;
    -- Ends before beginnings, so that one item can put an operation in another's place.
    UPDATE operation o SET state = w.state, phase = w.phase, tries = w.tries, finished = w.finished, looks = 0,
           look_again_at = now() + make_interval(secs => w.look_again_s), version = w.expected + 1,
           revision = w.revision, body = w.body
      FROM (SELECT *, first + row_number() OVER (ORDER BY item, id) AS revision
              FROM unnest(operations) WHERE item <> ALL (refused)) w
     WHERE o.id = w.id AND w.expected > 0;
    INSERT INTO operation (id, project_id, resource_id, action, state, phase, tries, finished, look_again_at,
                           version, revision, body)
    SELECT w.id, w.project_id, w.resource_id, w.action, w.state, w.phase, w.tries, w.finished,
           now() + make_interval(secs => w.look_again_s), 1, w.revision, w.body
      FROM (SELECT *, first + row_number() OVER (ORDER BY item, id) AS revision
              FROM unnest(operations) WHERE item <> ALL (refused)) w
     WHERE w.expected = 0;
END $$;

CREATE FUNCTION write_catalog(entries catalog_write[], refused integer[], first bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO change (revision, kind, id, project_id, version, epoch, deleted, public, body)
    SELECT first + row_number() OVER (ORDER BY item, id), kind, id::text, project_id, expected + 1, 0, deleted, public, body
      FROM unnest(entries) WHERE item <> ALL (refused);
    INSERT INTO catalog (kind, id, project_id, name, digest, public, deleted, version, revision, body)
    SELECT kind, id, project_id, name, digest, public, deleted, expected + 1,
           first + row_number() OVER (ORDER BY item, id), body
      FROM unnest(entries) WHERE item <> ALL (refused)
        ON CONFLICT (kind, id) DO UPDATE SET
           deleted = excluded.deleted, version = excluded.version, revision = excluded.revision, body = excluded.body;
END $$;

-- Writes claims. Epochs come from the instances, which are written before.
CREATE FUNCTION write_claims(claims claim_write[], refused integer[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO claim (instance_id, epoch, host_id, role, vcpus, memory_mib, disk_gib, wanted_revision)
    SELECT w.instance_id, i.epoch, w.host_id, w.role, w.vcpus, w.memory_mib, w.disk_gib, i.epoch
      FROM unnest(claims) w JOIN instance i ON i.id = w.instance_id
     WHERE w.change = 1 AND w.item <> ALL (refused);
    UPDATE claim c SET role = w.role, wanted_revision = (SELECT revision FROM counter)
      FROM unnest(claims) w
     WHERE w.change = 2 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
    DELETE FROM claim c USING unnest(claims) w
     WHERE w.change = 3 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
    UPDATE claim c SET incarnation = w.incarnation, sequence = w.sequence
      FROM unnest(claims) w
     WHERE w.change = 4 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
END $$;

-- Writes what hosts say of themselves, and brings the ledger of every touched host up to its claims, before these are written.
CREATE FUNCTION write_hosts(
    hosts host_write[], claims claim_write[], refused integer[], touched text[], first bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Not one statement ON CONFLICT: of two that greet first for a host at once the second must fail, not follow.
    INSERT INTO host (id, machine_id, boot_id, state, incarnation, target_vcpus, target_memory_mib, target_disk_gib,
                      ceiling_vcpus, ceiling_memory_mib, ceiling_disk_gib, version, revision, body)
    SELECT id, machine_id, boot_id, state, incarnation, target_vcpus, target_memory_mib, target_disk_gib,
           target_vcpus, target_memory_mib, target_disk_gib, 0, 0, body
      FROM unnest(hosts) WHERE item <> ALL (refused) AND expected = 0;
    UPDATE host h SET
           machine_id = w.machine_id, boot_id = w.boot_id, state = w.state, incarnation = w.incarnation,
           target_vcpus = w.target_vcpus, target_memory_mib = w.target_memory_mib, target_disk_gib = w.target_disk_gib,
           ceiling_vcpus = greatest(w.target_vcpus, h.used_vcpus),
           ceiling_memory_mib = greatest(w.target_memory_mib, h.used_memory_mib),
           ceiling_disk_gib = greatest(w.target_disk_gib, h.used_disk_gib),
           body = w.body
      FROM unnest(hosts) w WHERE w.item <> ALL (refused) AND w.expected > 0 AND h.id = w.id;
    -- To greet is to beat: a new incarnation is never found without its lease. In the order in which beats lock.
    INSERT INTO lease (host_id, incarnation, beat_at)
    SELECT id, incarnation, now() FROM unnest(hosts)
     WHERE item <> ALL (refused) AND incarnation <> expected ORDER BY id
        ON CONFLICT (host_id) DO UPDATE SET incarnation = excluded.incarnation, beat_at = excluded.beat_at;
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
               revision = first + d.place
          FROM delta d WHERE h.id = d.id
        RETURNING h.*
    )
    INSERT INTO change (revision, kind, id, project_id, version, epoch, deleted, public, ledger, body)
    SELECT revision, 5, id, '', version, 0, false, false,
           ARRAY[target_vcpus, target_memory_mib, target_disk_gib, used_vcpus, used_memory_mib, used_disk_gib, claim_count],
           body
      FROM written;
END $$;

CREATE FUNCTION lock_rows(
    instances instance_write[], operations operation_write[], claims claim_write[], hosts host_write[],
    entries catalog_write[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(claims) > 0 OR cardinality(hosts) > 0 THEN
        PERFORM 1 FROM host
          WHERE id IN (SELECT host_id FROM unnest(claims) UNION SELECT id FROM unnest(hosts)) ORDER BY id FOR UPDATE;
    END IF;
    IF cardinality(instances) > 0 THEN
        PERFORM 1 FROM instance WHERE id IN (SELECT id FROM unnest(instances)) ORDER BY id FOR UPDATE;
    END IF;
    IF cardinality(claims) > 0 OR cardinality(instances) > 0 THEN
        PERFORM 1 FROM claim
          WHERE instance_id IN (SELECT instance_id FROM unnest(claims) UNION SELECT id FROM unnest(instances))
          ORDER BY instance_id, epoch FOR UPDATE;
    END IF;
    IF cardinality(operations) > 0 THEN
        PERFORM 1 FROM operation WHERE id IN (SELECT id FROM unnest(operations)) ORDER BY id FOR UPDATE;
    END IF;
    IF cardinality(entries) > 0 THEN
        PERFORM 1 FROM catalog WHERE (kind, id) IN (SELECT kind, id FROM unnest(entries)) ORDER BY kind, id FOR UPDATE;
    END IF;
END $$;

CREATE FUNCTION commit_items(
    requests request_write[], instances instance_write[], operations operation_write[], claims claim_write[],
    hosts host_write[], entries catalog_write[],
    OUT verdicts verdict[], OUT changes changed[]
) LANGUAGE plpgsql AS $$
DECLARE
    refused integer[] := '{}';
    roomless verdict[];
    touched text[] := '{}';
    counts bigint[];
    total bigint;
    first bigint;
BEGIN
    PERFORM lock_rows(instances, operations, claims, hosts, entries);
    verdicts := coalesce((SELECT array_agg(v) FROM refused_items(requests, instances, operations, claims, hosts, entries) v),
                         ARRAY[]::verdict[]);
    LOOP
        IF cardinality(verdicts) > 0 THEN
            refused := ARRAY(SELECT DISTINCT v.item FROM unnest(verdicts) v);
        END IF;
        EXIT WHEN NOT EXISTS (SELECT FROM unnest(claims) WHERE change = 1);
        roomless := ARRAY(SELECT v FROM roomless_items(claims, refused) v);
        EXIT WHEN cardinality(roomless) = 0;
        verdicts := verdicts || roomless;
    END LOOP;

    IF cardinality(claims) > 0 OR cardinality(hosts) > 0 THEN
        touched := ARRAY(
            SELECT host_id FROM unnest(claims) WHERE change IN (1, 3) AND item <> ALL (refused)
            UNION SELECT id FROM unnest(hosts) WHERE item <> ALL (refused) ORDER BY 1);
    END IF;
    IF cardinality(refused) = 0 THEN
        counts := ARRAY[cardinality(instances), cardinality(operations), cardinality(entries), cardinality(touched)];
    ELSE
        counts := ARRAY[
            (SELECT count(*) FROM unnest(instances) WHERE item <> ALL (refused)),
            (SELECT count(*) FROM unnest(operations) WHERE item <> ALL (refused)),
            (SELECT count(*) FROM unnest(entries) WHERE item <> ALL (refused)),
            cardinality(touched)];
    END IF;
    total := counts[1] + counts[2] + counts[3] + counts[4];
    IF total > 0 THEN
        UPDATE counter SET revision = counter.revision + total RETURNING counter.revision - total INTO first;
    ELSE
        first := 0;
    END IF;

    IF cardinality(requests) > 0 THEN
        INSERT INTO request (project_id, caller, method, request_id, fingerprint, resource_id, operation_id)
        SELECT project_id, caller, method, request_id, fingerprint, resource_id, operation_id
          FROM unnest(requests) WHERE item <> ALL (refused);
    END IF;
    IF counts[1] > 0 THEN
        PERFORM write_instances(instances, refused, first);
    END IF;
    IF counts[2] > 0 THEN
        PERFORM write_operations(operations, refused, first + counts[1]);
    END IF;
    IF counts[3] > 0 THEN
        PERFORM write_catalog(entries, refused, first + counts[1] + counts[2]);
    END IF;
    IF counts[4] > 0 THEN
        PERFORM write_hosts(hosts, claims, refused, touched, first + counts[1] + counts[2] + counts[3]);
    END IF;
    IF cardinality(claims) > 0 THEN
        PERFORM write_claims(claims, refused);
    END IF;

    changes := ARRAY(
        SELECT ROW (c.kind, c.id, c.version, c.revision, c.epoch, CASE WHEN c.kind = 5 THEN c.body END, c.ledger)::changed
          FROM change c WHERE c.revision > first AND c.revision <= first + total ORDER BY c.revision);
END $$;
