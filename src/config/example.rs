//! The configuration that `init` writes, for the stand-ins of the four systems on this machine.
//!
//! The rule it keeps: the written file loads without a change, and reaches only the stand-ins.

use std::net::SocketAddr;

/// The sandbox's default address.
pub const SANDBOX_ADDRESS: &str = "127.0.0.1:8470";

/// The whole file. Its paths are relative to its folder.
pub fn render(sandbox: SocketAddr) -> String {
    format!(
        r#"# erasure-worker against the stand-ins of the four systems (`erasure-worker sandbox --listen {sandbox}`).
# Every key can be overridden by ERASURE__SECTION__KEY. Paths are relative to this file's folder.
# A secret is given by KEY_env = "NAME", KEY_file = "path" or, as here for trials, KEY = "...".
# A line that begins with # and a key shows a setting that is not used here.

[worker]
environment = "sandbox"             # sandbox | staging | production; every job names the same one
id = "worker-0"                     # stable over restarts
concurrency = 64                    # jobs in hand at once
state_dir = "state"                 # the store; one process owns it
master_key_file = "keys/master.key" # 32 bytes that seal, sign and derive: keep it safe, jobs in hand need it
inline_wait_max = "2s"              # longer waits are parked on the broker
in_hand_max = "10m"                 # a job in hand longer than this is parked briefly
drain_timeout = "25s"               # how long a stop waits for the calls on the wire
retain_finished = "800d"            # how long an ended job is remembered, without personal data
retain_failed = "30d"               # how long a failed job can be replayed from its last checkpoint
#master_key_previous_file = "keys/previous.key" # during a rotation: the former master key, to open what it sealed

[store]
kind = "sled"                       # sled: in worker.state_dir | postgres: in a database, for a worker without a disk

#[store.postgres]                   # with kind = "postgres"
#url_env = "ERASURE_STORE_URL"      # postgresql://USER:PASSWORD@HOST:PORT/DATABASE, encrypted unless on this machine
#ca_file = "keys/store-ca.pem"      # the certificate authority, if it is not a public one
#client_cert_file = "keys/store-client.pem" # the worker's own certificate
#client_key_file = "keys/store-client.key"
#schema = "erasure"                 # the store's tables; one worker owns them
#connections = 8
#statement_timeout = "5s"
#durability = "synchronous"         # synchronous | trusted: a failover loses nothing, although a standby is asynchronous

[retry]                             # per step; a wait is no attempt
max_attempts = 8
initial_interval = "500ms"
multiplier = 2.0
max_interval = "15m"
max_elapsed = "72h"                 # from the first failed attempt to the latest

[waits]
input_max = "14d"                   # for a person's input
pending_max = "14d"                 # for a deletion to become visible
approval_max = "24h"                # how long an approval is valid for an erasure that has not begun

[deadlines]
at_risk_before = "7d"               # an open job is reported as at risk this long before it is due

[amqp]                              # not needed by `batch` and `demo`
url = "amqp://guest:guest@127.0.0.1:5672/%2f"
prefix = "erasure"                  # the prefix of every exchange's and queue's name
declare_topology = true             # false if the broker's operator declares it
#ca_file = "keys/ca.pem"            # with amqps://: the certificate authority, if it is not a public one
#client_cert_file = "keys/client.pem" # with amqps://: the worker's own certificate
#client_key_file = "keys/client.key"

[dead_letters]
seal = true                         # bodies can be read with the master key only
max_age = "90d"

[ops]
listen = "127.0.0.1:8460"           # an address that is not loopback needs token_env or token_file
approval = "as_asked"               # as_asked | always: which erasures wait for a second operator
#token_file = "keys/ops-token"      # the bearer token for all callers of the ops API

#[ops.operators.ann]                # an operator with a separate token: decisions are recorded with this name
#token_file = "keys/ann-token"

[systems.cleeng]
kind = "cleeng"
core_url = "http://{sandbox}/cleeng/core"
rpc_url = "http://{sandbox}/cleeng/rpc"
mediastore_url = "http://{sandbox}/cleeng/mediastore"
publisher_token = "publisher-token"
termination = "json_rpc"            # or core: by the entitlement's id
require_confirmation = "when_active" # always | when_active | never
# A customer who always exists and is never erased. With this key, a probe proves that address and token are
# right, and the worker believes "not found" for other people. Without it, a job for a person who is not found
# fails as unproven, until a call has found some person.
#probe_customer_id = "100000001"
# The following keys are possible in the table of every system.
#requests_per_minute = 600          # the most calls in any minute, for each endpoint; without this key no limit
#max_in_flight = 16                 # calls on the wire
#timeout = "30s"                    # of one call
#connect_timeout = "5s"
#verify_interval = "30s"            # between two read-backs of a deletion
#hold_probe_interval = "30s"        # between two probes of a system that refuses our credential
#identity_check = "when_readable"   # or strict: refuse if the system shows nothing to compare
#max_jobs_per_hour = 500            # more jobs wait until an operator releases them
#spike_factor = 10.0                # the same ceiling, as a multiple of the last day's hourly mean

[systems.loyalty]
kind = "zeta_loyalty"
base_url = "http://{sandbox}/loyalty"
program_token = "program-token"
member_proof = "password"           # password | otp | token: what the platform requires of a member
preserved = ["offer_responses"]     # the data that the platform keeps; listed in the event
#otp_field = "code"                 # the platform's field for a one-time password: code, or otp_code
#otp_validity = "5m"                # how long a one-time password is valid
#otp_resend_after = "1m"            # after this time a person can request another one
# A member who always exists and is never erased: see probe_customer_id.
#probe_member_id = "M1"

[systems.loyalty.import]            # deletion by a file that a person uploads to the platform
dir = "loyalty-import"
key = "integration_id"              # integration_id | member_id | email
#max_rows = 10000                   # a file with this many rows is closed
#max_age = "1h"                     # a file of this age is closed

[systems.easycms]
kind = "easycms"
base_url = "http://{sandbox}/easycms"
authorization = "easycms-token"
username = "shop"
password = "easycms-password"
account = "1"
#delete_path = "/public_api/set_customer_delete_account" # with or without a last slash, as the shop requires
# The e-mail of an account that always exists and is never erased: see probe_customer_id. With another shop's
# account or credential no person is found; only this key shows that it is the right shop.
#probe_email = "person1@example.com"

[systems.vitalsource]
kind = "vitalsource"
base_url = "http://{sandbox}/vitalsource"
api_key = "VITALSOURCEKEY"
requests_per_minute = 50            # the vendor's limit for each endpoint and key
require_confirmation = "always"     # the vendor advises to ask before anything is revoked
check_licenses = true               # an unexpired licence without a code in the job stops the overwrite
replacement_email_domain = "example.com"
#abandon_url = "http://{sandbox}/requester/abandon" # the requester's endpoint for the request to drop the account
#abandon_private = true             # whether that endpoint may be at a private address
# The GUID or reference of a user who always exists and is never erased: see probe_customer_id.
#probe_user = "GUID00000000000001"

#[systems.helpdesk]                 # any system with a connector file: docs/connectors.md
#kind = "connector"
#file = "connectors/zendesk.toml"   # with its settings and secrets:
#base_url = "http://{sandbox}/helpdesk" # a stand-in in place of the file's address; not in production
#[systems.helpdesk.settings]
#subdomain = "acme"
#agent = "privacy@example.com"
#token_file = "keys/helpdesk-token"
#[systems.helpdesk.probe_subject]   # a person who always exists and is never erased: see probe_customer_id
#user_id = "1"
#email = "person1@example.com"

#[systems.shop]                     # a database of one's own: docs/sql.md
#kind = "sql"
#file = "shop.toml"
#url_file = "keys/shop.url"         # postgresql://USER:PASSWORD@HOST/DATABASE, encrypted unless sslmode=disable
#ca_file = "keys/ca.pem"            # the certificate authority, if it is not a public one
#lock_timeout = "5s"                # the longest wait for another session's lock

#[systems.crm]                      # a receiver of one's own: docs/connectors.md#webhook
#kind = "webhook"
#url = "https://crm.example.com/erasure" # for signed requests; below it, their status
#read_url = "https://crm.example.com/erasure/read" # says whether a person is there; without it the event says "declared"
#private = true                     # whether these addresses may be private
#preserved = ["invoices"]           # the data that the receiver keeps; listed in the event

#[systems.crm.identifiers.user_id]  # a name in "subject" of a job
#type = "digits"                    # text | digits | email | uuid
#required = true

#[systems.crm.probe_subject]        # with read_url: a person who always exists, see probe_customer_id
#user_id = "1"

#[tenants.acme]                     # if any tenant has a table, only jobs of tenants with a table are accepted
#systems = ["cleeng", "easycms"]    # without this key all systems
#amqp_users = ["acme"]              # the broker's users that may publish for it; without this key any user
#require_signature = false
#signature_max_age = "15m"          # how old a signature may be when its message is accepted
#plain_proofs = true                # false: proofs must be sealed for the worker
#approval = "always"                # like ops.approval
#max_jobs_per_hour = 500            # like a system's
#spike_factor = 10.0

#[tenants.acme.signature_keys.acme-1]
#kind = "ed25519"                   # or hmac-sha256, with a shared secret
#public_file = "keys/acme-1.pem"

#[tenants.acme.signature_keys.acme-2]
#kind = "hmac-sha256"
#secret_file = "keys/acme-2"

#[regulations.gdpr]                 # a built-in law takes holidays only
#holidays = []                      # non-working days, each as "YYYY-MM-DD"

#[regulations.another-law]
#days = 15                          # the term; or months
#next_working_day = false           # true: a term that ends on a non-working day ends on the next working day

#[regulations.a-third-law]
#months = 2
"#
    )
}
