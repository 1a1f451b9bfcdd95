//! What host-proxies ask of the components, below `/internal`. Every call carries an `internal` token;
//! the public listener refuses the prefix.
//!
//! | Call | Component | Answer |
//! | --- | --- | --- |
//! | `POST /internal/migrate` | platform | 200 [`Migrated`] |
//! | `GET /internal/agents` | platform | 200 [`Agents`] |
//! | `GET /internal/agents/:vmid` | platform | 200 [`AgentRoute`], 404 |
//! | `POST /internal/heartbeats` [`Heartbeats`] | platform | 204 |
//! | `POST /internal/audit` [`RecordAudit`] | platform | 204 |
//! | `POST /internal/operations/claim` [`ClaimOperation`] | platform | 200 [`ClaimedOperation`] |
//! | `POST /internal/operations/:id/heartbeat` [`OperationProgress`] | platform | 204, 409 lease lost |
//! | `POST /internal/operations/:id/ports` [`AllocatePorts`] | platform | 200 [`AllocatedPorts`], 409 lease lost, 503 none free |
//! | `POST /internal/operations/:id/steps` [`RecordStep`] | platform | 204, 409 lease lost |
//! | `POST /internal/operations/:id/undo` [`UndoOperation`] | platform | 204, 409 lease lost |
//! | `POST /internal/operations/:id/finish` [`FinishOperation`] | platform | 204, 409 lease lost |
//! | `POST /internal/ide/open` [`OpenIde`] | tokens | 200 [`OpenedIde`], 401, 404 |
//! | `POST /internal/ide/check` [`CheckIde`] | tokens | 200 [`IdeAccess`], 401, 404 |
//! | `POST /internal/ide/revalidate` [`RevalidateIde`] | tokens | 200 [`RevalidatedIde`] |
//! | `POST /internal/streams/check` [`CheckStream`] | tokens | 200 [`StreamAccess`], 401, 404, 409 |
//! | `POST /internal/users` [`CreateUser`] | auth | 201 [`CreatedUser`], 400, 409 |

use serde::{Deserialize, Serialize};
use zlh_ids::{ContainerType, InstanceId, LeaseId, OperationId, SessionId, UserId, Vmid};

use crate::agent::{Ready, Status};

/// Answer of `POST /internal/migrate`: the schema is at `version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Migrated {
    /// Migrations that this call applied, in order.
    pub applied: Vec<String>,
    /// Number of the newest migration.
    pub version: i64,
    /// There is none left: another call would apply nothing. Older components always do all.
    #[serde(default = "yes")]
    pub complete: bool,
}

fn yes() -> bool {
    true
}

/// `POST /internal/agents/claim`: which agents shall the calling host-proxy poll?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClaimAgents {
    /// How long its part of the agents stays its own if it does not ask again, in seconds; 0 gives the part
    /// back.
    pub lease_seconds: u32,
    /// Where other host-proxies reach this one's gateway, if it has one, such as `http://10.0.0.3:8084`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_url: Option<String>,
}

/// Answer of `GET /internal/agents`: every container that has an agent to ask; and of
/// `POST /internal/agents/claim`: those that the host-proxy shall poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agents {
    /// In order of vmid.
    pub agents: Vec<AgentRoute>,
}

/// Where one container's listeners are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentRoute {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance_id: InstanceId,
    /// What it is for.
    pub ctype: ContainerType,
    /// `host:port` of the agent.
    pub agent_address: String,
    /// Where code-server listens, as in [`Placement::ide_address`].
    #[serde(default)]
    pub ide_address: Option<String>,
    /// Whose machine they are on.
    #[serde(flatten)]
    pub machine: Machine,
    /// Whether the container shall run.
    #[serde(default)]
    pub power: HostPower,
}

/// Whether a container shall run, whatever runs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostPower {
    /// No.
    Off,
    /// Yes; one that was begun anew fewer times than this is begun anew.
    On {
        /// How often its owner wanted that.
        boots: u32,
    },
}

impl Default for HostPower {
    fn default() -> Self {
        Self::On { boots: 0 }
    }
}

/// The machine that a container is on: its listeners may be out of reach from any other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Name of its host-proxy; none for what was made before these were told apart.
    #[serde(default)]
    pub host: Option<String>,
    /// Where that one's gateway is, if it has one.
    #[serde(default)]
    pub gateway_url: Option<String>,
}

/// `POST /internal/heartbeats`: one poller tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeats {
    /// One per polled agent; at most 1,000 a call.
    pub observations: Vec<Observation>,
}

/// What one poll of one agent found. Stored under the key `agent:<vmid>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Observation {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance_id: InstanceId,
    /// `/health` answered.
    pub online: bool,
    /// `/ready` answered 200 with `ready:true` for this vmid; nothing else makes it so (A11).
    pub ready: bool,
    /// The body of `/ready`, if it could be read.
    pub readiness: Option<Ready>,
    /// The body of `/status`, if it could be read.
    pub status: Option<Status>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// Unix milliseconds.
    pub seen_at_ms: i64,
}

/// `POST /internal/audit`: something that a host-proxy did, or would not do, for its operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordAudit {
    /// What, as `noun.verb`; at most 64 bytes.
    pub action: String,
    /// To what; at most 128 bytes.
    pub target: String,
    /// More about it, at most 8,192 bytes as JSON; never a secret.
    pub detail: serde_json::Value,
}

/// `POST /internal/operations/claim`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClaimOperation {
    /// Name of this host-proxy, stable over restarts. Its own earlier leases are handed out again at once,
    /// since only one process has the name; those of others only after they expired.
    pub owner: String,
    /// How long the lease holds without a heartbeat, in seconds.
    pub lease_seconds: u32,
    /// Operations this process already works on, not to be handed out again.
    #[serde(default)]
    pub working_on: Vec<OperationId>,
}

/// Answer of `POST /internal/operations/claim`; null when there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedOperation {
    /// The work, oldest first.
    pub operation: Option<Operation>,
}

/// One operation as its worker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// The operation.
    pub id: OperationId,
    /// What is to be done.
    pub kind: OperationKind,
    /// The right to do it.
    pub lease: LeaseId,
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance_id: InstanceId,
    /// What the customer asked for.
    pub spec: InstanceSpec,
    /// Set once the operation failed: undo the recorded steps, newest first, then finish as failed.
    pub undoing: Option<String>,
    /// Steps that were begun, oldest first. A step is recorded before it acts, so each must be repeatable.
    pub steps: Vec<Step>,
    /// Ports that belong to the container: its agent's, then those of its game.
    pub ports: Vec<u16>,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// Make the container and wait until its workload is ready.
    Create,
    /// Stop the container and remove everything of it.
    Delete,
}

/// What a customer asked for. Stored with the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceSpec {
    /// What the container is for; its `ctype` and its fields lie beside the others.
    #[serde(flatten)]
    pub workload: Workload,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processor cores.
    pub cpu_cores: u32,
}

/// What a container is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ctype", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Workload {
    /// A workspace with a runtime.
    Dev {
        /// Runtime id, such as `node`.
        runtime: String,
        /// Version of the runtime as the catalogue lists it.
        version: String,
        /// Whether code-server shall run in it.
        enable_code_server: bool,
    },
    /// A game server.
    Game {
        /// Game id, such as `openttd`.
        game: String,
        /// Variant of the game as the catalogue lists it.
        variant: String,
        /// Version of the variant as the catalogue lists it.
        version: String,
        /// Name of the world: letters, digits, `-` and `_`.
        world: String,
        /// How many ports the game is given.
        ports: u16,
    },
}

impl Workload {
    /// The kind of container.
    #[must_use]
    pub fn ctype(&self) -> ContainerType {
        match self {
            Self::Dev { .. } => ContainerType::Dev,
            Self::Game { .. } => ContainerType::Game,
        }
    }
}

/// A recorded step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the step.
    pub name: String,
}

/// `POST /internal/operations/:id/heartbeat`: still at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OperationProgress {
    /// The right to do it.
    pub lease: LeaseId,
    /// How much longer the lease shall hold, in seconds.
    pub lease_seconds: u32,
    /// What is being done, for people; shown by `GET /api/operations/:id`.
    pub message: Option<String>,
}

/// `POST /internal/operations/:id/ports`: reserve ports for the container. The same call again answers the
/// same ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllocatePorts {
    /// The right to do it.
    pub lease: LeaseId,
    /// How many in all, 1 to 16.
    pub count: u16,
}

/// Answer of `POST /internal/operations/:id/ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocatedPorts {
    /// The agent's, then those of the game, ascending.
    pub ports: Vec<u16>,
}

/// `POST /internal/operations/:id/steps`: the step is about to act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordStep {
    /// The right to do it.
    pub lease: LeaseId,
    /// Name of the step; recording it twice is the same as once.
    pub step: String,
}

/// `POST /internal/operations/:id/undo`: it failed; from now on it is being undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoOperation {
    /// The right to do it.
    pub lease: LeaseId,
    /// What went wrong, for the customer.
    pub error: String,
}

/// `POST /internal/operations/:id/finish`: the operation's last word. A creation that succeeded makes the
/// instance active at its place; one that was undone, or a deletion that succeeded, archives the instance
/// and frees its vmid and ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishOperation {
    /// The right to do it.
    pub lease: LeaseId,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A creation is complete and the container is here.
    Created(Placement),
    /// A deletion is complete.
    Deleted,
    /// Undone; the reason was given to `undo`.
    Undone,
}

/// Where a container's listeners are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// `host:port` of the agent.
    pub agent_address: String,
    /// Where code-server listens: `host:port`, or `unix:` and an absolute path.
    pub ide_address: Option<String>,
}

/// `POST /internal/ide/open`: exchange an IDE token, once, for a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenIde {
    /// The container whose IDE was asked for.
    pub vmid: Vmid,
    /// The `dev-ide` token.
    pub token: String,
}

/// Answer of `POST /internal/ide/open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenedIde {
    /// Secret for the cookie: 256 random bits in base64url.
    pub session: String,
    /// How long the session lasts at most, in seconds.
    pub max_age_seconds: u64,
    /// What it opens.
    pub access: IdeAccess,
}

/// `POST /internal/ide/check`: may this credential use the IDE now?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckIde {
    /// The container whose IDE was asked for.
    pub vmid: Vmid,
    /// What the client showed.
    pub credential: IdeCredential,
}

/// What a client can show for an IDE.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdeCredential {
    /// The secret of an opened session (the cookie).
    Session(String),
    /// A `dev-ide` token, not used up by this call; refused once it was exchanged.
    Token(String),
}

/// The right to use one IDE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdeAccess {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance_id: InstanceId,
    /// Whose it is.
    pub user_id: UserId,
    /// The login it hangs on.
    pub session_id: SessionId,
    /// Where code-server listens, as in [`Placement::ide_address`].
    pub ide_address: String,
    /// Whose machine that is on.
    #[serde(flatten)]
    pub machine: Machine,
    /// When the credential ends by itself, in Unix milliseconds.
    pub expires_at_ms: i64,
}

/// `POST /internal/ide/revalidate`: which of these still hold? Asked every few seconds for open streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevalidateIde {
    /// At most 1,000 a call.
    pub accesses: Vec<IdeGrant>,
}

/// What an open stream hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdeGrant {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance_id: InstanceId,
    /// Whose it is.
    pub user_id: UserId,
    /// The login.
    pub session_id: SessionId,
}

/// Answer of `POST /internal/ide/revalidate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevalidatedIde {
    /// Those whose streams must be closed: logged out, disabled, suspended, deleted, or no longer the owner.
    pub revoked: Vec<IdeGrant>,
}

/// What a stream token opens, beside an IDE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// The container's console.
    Console,
    /// Uploads to the container's files, and downloads of them.
    Upload,
}

impl StreamKind {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Upload => "upload",
        }
    }
}

/// `POST /internal/streams/check`: may this token open a stream of this kind now? It is not used up: an upload
/// that broke off goes on with the same token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckStream {
    /// The container whose stream was asked for.
    pub vmid: Vmid,
    /// What was asked for.
    pub kind: StreamKind,
    /// The stream token.
    pub token: String,
}

/// The right to one stream of one container's agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamAccess {
    /// What the stream hangs on.
    #[serde(flatten)]
    pub grant: IdeGrant,
    /// What the container is for.
    pub ctype: ContainerType,
    /// `host:port` of the agent.
    pub agent_address: String,
    /// Whose machine that is on.
    #[serde(flatten)]
    pub machine: Machine,
    /// When the stream must end at the latest, in Unix milliseconds: it may outlive its token.
    pub expires_at_ms: i64,
}

/// `POST /internal/users`: an account made by the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CreateUser {
    /// Address to log in with.
    pub email: String,
    /// Name to log in with.
    pub username: String,
    /// 8 to 256 characters.
    pub password: String,
    /// `user` or `admin`.
    pub role: String,
}

/// Answer of `POST /internal/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedUser {
    /// The account.
    pub user_id: UserId,
}
