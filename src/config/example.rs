//! The configuration that `init` writes, for the stand-ins of the four systems on this machine.
//!
//! The rule it keeps: what is written here loads as it is, and reaches nothing but the stand-ins.

use std::net::SocketAddr;

/// Where the sandbox listens unless told otherwise.
pub const SANDBOX_ADDRESS: &str = "127.0.0.1:8470";

/// The whole file. Its relative paths start at its own folder.
pub fn render(sandbox: SocketAddr) -> String {
    format!(
        r#"# erasure-worker against the stand-ins of the four systems (`erasure-worker sandbox --listen {sandbox}`).
# Every key can be overridden by ERASURE__SECTION__KEY. Relative paths start at this file's folder.
# A secret is given by KEY_env = "NAME", KEY_file = "path" or, as here for trials, KEY = "...".
# A line that begins with # and a key is a setting that is left out here.

[worker]
environment = "sandbox"             # sandbox | staging | production; every job names the same one
id = "worker-0"                     # stable over restarts
concurrency = 64                    # jobs in hand at once
state_dir = "state"                 # the store; one process owns it
master_key_file = "keys/master.key" # 32 bytes that seal, sign and derive: keep it safe, jobs in hand need it
inline_wait_max = "2s"              # longer waits are parked on the broker
in_hand_max = "10m"                 # a job in hand longer than this is parked for a moment
drain_timeout = "25s"               # how long a stop waits for the calls on the wire
retain_finished = "800d"            # how long an ended job is remembered, without personal data
retain_failed = "30d"               # how long a failed job can go on from where it stopped
#master_key_previous_file = "keys/previous.key" # while the master key is rotated: what the former one sealed still opens

[retry]                             # per step; a wait is no attempt
max_attempts = 8
initial_interval = "500ms"
multiplier = 2.0
max_interval = "15m"
max_elapsed = "72h"                 # from the first failed attempt to the latest

[waits]
input_max = "14d"                   # for a person's input
pending_max = "14d"                 # for a deletion to become visible
approval_max = "24h"                # how long an approval holds for what was not begun

[deadlines]
at_risk_before = "7d"               # an open job is said to be at risk so long before it is due

[amqp]                              # `batch` and `demo` do without
url = "amqp://guest:guest@127.0.0.1:5672/%2f"
prefix = "erasure"                  # what every exchange and queue name starts with
declare_topology = true             # false where the broker's operator declares it
#ca_file = "keys/ca.pem"            # with amqps://: whom to trust, where it is not a public authority
#client_cert_file = "keys/client.pem" # with amqps://: how the worker shows who it is
#client_key_file = "keys/client.key"

[dead_letters]
seal = true                         # bodies can be read with the master key only
max_age = "90d"

[ops]
listen = "127.0.0.1:8460"           # any other than a loopback address needs token_env or token_file
approval = "as_asked"               # as_asked | always: which erasures wait for a second operator
#token_file = "keys/ops-token"      # what every caller of the ops API has to show

#[ops.operators.ann]                # an operator with a token of their own: decisions carry the name
#token_file = "keys/ann-token"

[systems.cleeng]
kind = "cleeng"
core_url = "http://{sandbox}/cleeng/core"
rpc_url = "http://{sandbox}/cleeng/rpc"
mediastore_url = "http://{sandbox}/cleeng/mediastore"
publisher_token = "publisher-token"
termination = "json_rpc"            # or core: by the entitlement's id
require_confirmation = "when_active" # always | when_active | never
# A customer who is always there and is never erased. With it the worker finds out by itself that address and
# token are right: it believes "not there" of others, and each look at the system shows whether it works.
# Without it a job for somebody who is not there fails as unproven until a call has shown somebody.
#probe_customer_id = "100000001"
# These may stand in the table of every system.
#requests_per_minute = 600          # calls in any minute, for each endpoint; as many as come where it is left out
#max_in_flight = 16                 # calls on the wire
#timeout = "30s"                    # of one call
#connect_timeout = "5s"
#verify_interval = "30s"            # between two looks at whether something is gone
#hold_probe_interval = "30s"        # between two looks at a system that refuses our credential
#identity_check = "when_readable"   # or strict: refuse where the system shows nothing to compare
#max_jobs_per_hour = 500            # more wait until an operator releases them
#spike_factor = 10.0                # the same, for so many times the trailing day's hourly mean

[systems.loyalty]
kind = "zeta_loyalty"
base_url = "http://{sandbox}/loyalty"
program_token = "program-token"
member_proof = "password"           # password | otp | token: what the platform asks of a member
preserved = ["offer_responses"]     # what the platform keeps; told in the event
#otp_field = "code"                 # how the platform names a one-time password: code, or otp_code
#otp_validity = "5m"                # how long one holds
# A member who is always there and is never erased: see probe_customer_id.
#probe_member_id = "M1"

[systems.loyalty.import]            # deletion by a file that a person hands to the platform
dir = "loyalty-import"
key = "integration_id"              # integration_id | member_id | email
#max_rows = 10000                   # a file that has so many takes no more
#max_age = "1h"                     # a file that is so old takes no more

[systems.easycms]
kind = "easycms"
base_url = "http://{sandbox}/easycms"
authorization = "easycms-token"
username = "shop"
password = "easycms-password"
account = "1"
#delete_path = "/public_api/set_customer_delete_account" # with or without a last slash, as the shop wants it
# The e-mail of an account that is always there and is never erased: see probe_customer_id. With another shop's
# account or credential everybody seems to be gone; only this shows that it is the right one.
#probe_email = "person1@example.com"

[systems.vitalsource]
kind = "vitalsource"
base_url = "http://{sandbox}/vitalsource"
api_key = "VITALSOURCEKEY"
requests_per_minute = 50            # the vendor's limit for each endpoint and key
require_confirmation = "always"     # the vendor advises to ask before anything is revoked
check_licenses = true               # an unexpired licence that no code was given for stops the overwrite
replacement_email_domain = "example.com"
#abandon_url = "http://{sandbox}/requester/abandon" # the requester's own endpoint, told of a code before it is revoked
#abandon_private = true             # whether that endpoint may be at a private address
# The GUID or reference of a user who is always there and is never erased: see probe_customer_id.
#probe_user = "GUID00000000000001"

#[tenants.acme]                     # as soon as one tenant has a table, only tenants with one may order anything
#systems = ["cleeng", "easycms"]    # all where it is left out
#amqp_users = ["acme"]              # the broker's users that may publish for it; any where it is left out
#require_signature = false
#signature_max_age = "15m"          # how old a signature may be when its message is accepted
#plain_proofs = true                # false: proofs only sealed for the worker
#approval = "always"                # as ops.approval
#max_jobs_per_hour = 500            # as at a system
#spike_factor = 10.0

#[tenants.acme.signature_keys.acme-1]
#kind = "ed25519"                   # or hmac-sha256, with a secret instead
#public_file = "keys/acme-1.pem"

#[tenants.acme.signature_keys.acme-2]
#kind = "hmac-sha256"
#secret_file = "keys/acme-2"

#[regulations.gdpr]                 # a law that is built in takes holidays alone
#holidays = []                      # days on which nobody works, each as "YYYY-MM-DD"

#[regulations.another-law]
#days = 15                          # the term; or months
#next_working_day = false           # true: a term that ends on a free day ends on the next working day

#[regulations.a-third-law]
#months = 2
"#
    )
}
