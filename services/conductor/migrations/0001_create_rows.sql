-- The rows of stead. SQL knows versions, sums and uniqueness, never states: what a state number means is the flows' affair.

CREATE TABLE cloud (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    cloud_id   text NOT NULL,
    history_id text NOT NULL
);

CREATE TABLE counter (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE host (
    id                 text PRIMARY KEY,
    machine_id         text NOT NULL,
    boot_id            text NOT NULL,
    state              smallint NOT NULL,
    incarnation        bigint NOT NULL,
    target_vcpus       bigint NOT NULL,
    target_memory_mib  bigint NOT NULL,
    target_disk_gib    bigint NOT NULL,
    used_vcpus         bigint NOT NULL DEFAULT 0 CHECK (used_vcpus >= 0),
    used_memory_mib    bigint NOT NULL DEFAULT 0 CHECK (used_memory_mib >= 0),
    used_disk_gib      bigint NOT NULL DEFAULT 0 CHECK (used_disk_gib >= 0),
    ceiling_vcpus      bigint NOT NULL,
    ceiling_memory_mib bigint NOT NULL,
    ceiling_disk_gib   bigint NOT NULL,
    claim_count        integer NOT NULL DEFAULT 0 CHECK (claim_count >= 0),
    version            bigint NOT NULL,
    revision           bigint NOT NULL,
    body               bytea NOT NULL,
    -- The last guard of the ledger, not its mechanism: commit_items refuses before this is reached.
    CONSTRAINT host_not_oversubscribed CHECK (
        used_vcpus <= ceiling_vcpus
        AND used_memory_mib <= ceiling_memory_mib
        AND used_disk_gib <= ceiling_disk_gib
    )
) WITH (fillfactor = 50);

CREATE TABLE lease (
    host_id     text PRIMARY KEY,
    incarnation bigint NOT NULL,
    beat_at     timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE instance (
    id                uuid PRIMARY KEY,
    project_id        text NOT NULL,
    name              text NOT NULL,
    state             smallint NOT NULL,
    task              smallint NOT NULL,
    power             smallint NOT NULL,
    host_id           text NOT NULL,
    flavor_id         text NOT NULL,
    image_id          text NOT NULL,
    generation        bigint NOT NULL,
    epoch             bigint NOT NULL,
    attempt           bigint NOT NULL,
    excluded_host_ids text[] NOT NULL,
    deleted           boolean NOT NULL,
    version           bigint NOT NULL,
    revision          bigint NOT NULL,
    wanted            bytea NOT NULL,
    body              bytea NOT NULL
) WITH (fillfactor = 70);
-- In this order: before a table has statistics both look equally good for finding a name, and the newer one is taken.
CREATE INDEX instance_living ON instance (project_id, id) WHERE NOT deleted;
CREATE UNIQUE INDEX instance_living_name ON instance (project_id, name) WHERE NOT deleted;

-- Claims have no foreign key to living instances: a claim outlives its instance until its host confirms absence.
CREATE TABLE claim (
    instance_id     uuid NOT NULL,
    epoch           bigint NOT NULL,
    host_id         text NOT NULL REFERENCES host,
    role            smallint NOT NULL,
    vcpus           bigint NOT NULL,
    memory_mib      bigint NOT NULL,
    disk_gib        bigint NOT NULL,
    wanted_revision bigint NOT NULL,
    incarnation     bigint NOT NULL DEFAULT 0,
    sequence        bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (instance_id, epoch)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX claim_holder ON claim (instance_id) WHERE role = 1;
CREATE UNIQUE INDEX claim_incoming ON claim (instance_id) WHERE role = 2;
CREATE INDEX claim_host ON claim (host_id);

CREATE TABLE operation (
    id            uuid PRIMARY KEY,
    project_id    text NOT NULL,
    resource_id   text NOT NULL,
    action        smallint NOT NULL,
    state         smallint NOT NULL,
    phase         smallint NOT NULL,
    tries         integer NOT NULL,
    finished      boolean NOT NULL,
    looks         integer NOT NULL DEFAULT 0,
    look_again_at timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    version       bigint NOT NULL,
    revision      bigint NOT NULL,
    body          bytea NOT NULL
) WITH (fillfactor = 60);
CREATE UNIQUE INDEX operation_exclusive ON operation (resource_id) WHERE NOT finished;
CREATE INDEX operation_due ON operation (look_again_at) WHERE NOT finished;
CREATE INDEX operation_listed ON operation (project_id, id);

-- Nouns without a life of their own: flavors and images.
CREATE TABLE catalog (
    kind       smallint NOT NULL,
    id         uuid NOT NULL,
    project_id text NOT NULL,
    name       text NOT NULL,
    digest     text NOT NULL,
    public     boolean NOT NULL,
    deleted    boolean NOT NULL,
    version    bigint NOT NULL,
    revision   bigint NOT NULL,
    body       bytea NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE UNIQUE INDEX catalog_living_name ON catalog (kind, project_id, name) WHERE NOT deleted;

CREATE TABLE request (
    project_id   text NOT NULL,
    caller       text NOT NULL,
    method       text NOT NULL,
    request_id   uuid NOT NULL,
    fingerprint  bytea NOT NULL,
    resource_id  text NOT NULL,
    operation_id text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, caller, method, request_id)
);

-- The change log: one row per revision, gapless, in commit order.
CREATE TABLE change (
    revision   bigint PRIMARY KEY,
    kind       smallint NOT NULL,
    id         text NOT NULL,
    project_id text NOT NULL,
    version    bigint NOT NULL,
    epoch      bigint NOT NULL,
    deleted    boolean NOT NULL,
    public     boolean NOT NULL,
    before     jsonb,
    ledger     bigint[],
    body       bytea NOT NULL
);

INSERT INTO counter (revision) VALUES (0);
