//! VitalSource: reads a user, its codes and its licences, overwrites the user, and reads back.
//!
//! The rule it keeps: the body is read before the status, because v3 sends errors with HTTP 200 (`interface` reads
//! both). Only a read of the code itself shows that its content is revoked.
//!
//! Sources: the vendor's developer pages for v3 and v4 and its page on erasure requests; clients' code for errors on
//! HTTP 200.

mod codes;
mod interface;
mod licenses;
mod users;
mod xml;

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use self::users::Lookup;
pub use self::users::replacement_value;
use super::http::{Base, BuildError, Effect, Http, HttpSettings, Request, check_credential};
use super::{Call, Credential, KindSettings, Making, SettingsError, System};
use crate::config::Cursor;
use crate::job::{Answer, Code, Failure, FailureKind, Kind, Note, Reason, Rules, Spec, Step, StepName, identifier};

/// A user that does not exist.
const PROBE_USER: &str = "erasure-worker-probe";

/// Signs the bytes of a body; returns a detached compact JWS.
pub type Signer = Arc<dyn Fn(&[u8]) -> String + Send + Sync>;

/// Production hosts: no other environment may call them.
pub(super) const PRODUCTION_HOSTS: [&str; 1] = ["api.vitalsource.com"];
/// The vendor's limit, in requests a minute for each endpoint and key.
pub(super) const USUAL_RATE: u32 = 50;

/// Settings of one VitalSource key.
#[derive(Debug, Clone)]
pub struct VitalSourceSettings {
    /// For example `https://api.vitalsource.com`.
    pub base_url: String,
    /// Sent as `X-VitalSource-API-Key`.
    pub api_key: SecretString,
    /// Whether an unexpired licence stops the overwrite.
    pub check_licenses: bool,
    /// The domain of the replacement e-mail addresses. No mail may be delivered to it.
    pub replacement_email_domain: String,
    /// The requester's endpoint, to which the request to drop the account is sent.
    pub abandon_url: Option<String>,
    /// Whether that endpoint may be in a private network or on this machine.
    pub abandon_private: bool,
    /// The GUID or reference of a user who always exists, for the probe: only a found user proves the key.
    pub probe_user: Option<SecretString>,
}

impl VitalSourceSettings {
    /// Reads the kind's own keys.
    pub(crate) fn read(at: &mut Cursor<'_>) -> Option<VitalSourceSettings> {
        let base_url = at.url("base_url");
        let api_key = at.required_secret("api_key");
        let check_licenses = at.or("check_licenses", true);
        let replacement_email_domain = at.or("replacement_email_domain", "example.com".to_owned());
        if !is_domain(&replacement_email_domain) {
            at.fault("replacement_email_domain", "expected a domain such as \"example.com\"");
        }
        let abandon_url = if at.is_blank("abandon_url") { None } else { at.optional_url("abandon_url") };
        let abandon_private = at.or("abandon_private", !at.is_production());
        let probe_user = at.person("probe_user", identifier::flaw);
        Some(VitalSourceSettings {
            base_url: base_url?.into(),
            api_key: api_key?,
            check_licenses,
            replacement_email_domain,
            abandon_url: abandon_url.map(String::from),
            abandon_private,
            probe_user,
        })
    }
}

impl KindSettings for VitalSourceSettings {
    fn secret(&mut self, key: &str) -> Option<&mut SecretString> {
        match key {
            "api_key" => Some(&mut self.api_key),
            "probe_user" => self.probe_user.as_mut(),
            _ => None,
        }
    }

    fn proven_parts(&self) -> Vec<&str> {
        vec![&self.base_url, self.api_key.expose_secret()]
    }

    fn complete(&self, rules: &mut Rules) {
        rules.check_licenses = self.check_licenses;
        rules.tell_requester = self.abandon_url.is_some();
    }

    fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError> {
        let signer = Arc::clone(&making.keys.signer);
        Ok(Arc::new(VitalSource::new(making.name, self.clone(), making.http, signer)?))
    }
}

fn is_domain(text: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty() && part.len() <= 63 && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

/// The client of one VitalSource key.
pub struct VitalSource {
    name: String,
    base: Base,
    key: SecretString,
    email_domain: String,
    abandon: Option<Requester>,
    probe_user: Option<SecretString>,
    http: Http,
    credential: Credential,
}

/// The requester's endpoint.
struct Requester {
    url: Base,
    signer: Signer,
    http: Http,
}

impl Requester {
    fn new(url: &str, may_be_private: bool, signer: Signer, http: &HttpSettings) -> Result<Requester, BuildError> {
        let url = Base::new("abandon_url", url)?;
        let http = if may_be_private {
            Http::new(http, &[&url])?
        } else if url.is_private() {
            let problem = "a private address; to allow it, set abandon_private = true";
            return Err(BuildError::Setting { key: "abandon_url", problem });
        } else {
            Http::public_only(http, &[&url])?
        };
        Ok(Requester { url, signer, http })
    }
}

impl VitalSource {
    /// Builds the client; nothing is called. `signer` signs the message to the requester's endpoint.
    ///
    /// # Errors
    /// [`BuildError`] naming the key that is wrong.
    pub fn new(
        name: &str,
        settings: VitalSourceSettings,
        http: &HttpSettings,
        signer: Signer,
    ) -> Result<VitalSource, BuildError> {
        let base = Base::new("base_url", &settings.base_url)?;
        check_credential("api_key", &settings.api_key)?;
        if !is_domain(&settings.replacement_email_domain) {
            return Err(BuildError::Setting { key: "replacement_email_domain", problem: "not a domain name" });
        }
        let abandon =
            settings.abandon_url.map(|url| Requester::new(&url, settings.abandon_private, signer, http)).transpose()?;
        Ok(VitalSource {
            http: Http::new(http, &[&base])?,
            name: name.to_owned(),
            base,
            key: settings.api_key,
            email_domain: settings.replacement_email_domain,
            abandon,
            credential: Credential::new(settings.probe_user.is_some()),
            probe_user: settings.probe_user,
        })
    }

    fn with_key(&self, request: Request) -> Request {
        request.accept("text/xml").secret_header("X-VitalSource-API-Key", &self.key)
    }

    /// Sends the requester's endpoint the job's id. No GUID and no reference is sent: the requester finds the account
    /// by its own records of the job. A refusal of this endpoint is not VitalSource's, so it never holds the system.
    async fn tell_requester(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let Requester { url, signer, http } = self.abandon.as_ref().ok_or_else(not_a_step)?;
        let key = &call.job.key;
        let body = json!({
            "action": "abandon_account",
            "tenant": key.tenant,
            "job_id": key.job_id,
            "target": call.index,
            "system": self.name,
        })
        .to_string()
        .into_bytes();
        let request = Request::post(url.itself())
            .header("X-Erasure-Signature", &signer(&body))
            .header("Idempotency-Key", &format!("{}/{}", key.job_id, call.index))
            .body("application/json", body);
        let reply = http.send(request, Effect::Read).await?;
        match reply.status() {
            200..300 => Ok(Answer::Done),
            300..=399 | 401 | 403 | 404 => Err(Failure::new(FailureKind::Unavailable, Reason::SystemUnavailable)
                .with_note(Note::http(reply.status()).and(" from abandon_url"))),
            _ => Err(reply.failure(Effect::Read)),
        }
    }
}

/// A target's account.
struct Account<'a> {
    guid: Option<&'a SecretString>,
    reference: Option<&'a SecretString>,
    codes: &'a [Code],
}

impl<'a> Account<'a> {
    fn of(spec: &'a Spec) -> Option<Account<'a>> {
        match spec {
            Spec::VitalSource { guid, reference, codes, .. } => {
                Some(Account { guid: guid.as_ref(), reference: reference.as_ref(), codes })
            }
            _ => None,
        }
    }

    fn code(&self, item: u32) -> Result<&'a str, Failure> {
        let code = usize::try_from(item).ok().and_then(|item| self.codes.get(item)).ok_or_else(not_a_step)?;
        Ok(code.code.expose_secret())
    }
}

fn not_a_step() -> Failure {
    Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note("not a step of VitalSource")
}

fn key_refused() -> Failure {
    Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable).with_note("the API key is refused")
}

#[async_trait]
impl System for VitalSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::VitalSource
    }

    /// The vendor's limit holds for each endpoint and key. A user named by GUID and by reference is read twice. A
    /// listing of licences needs a new token, which is given by reference: without one in the job, the user is read.
    fn endpoints(&self, spec: &Spec, step: Step) -> &[&'static str] {
        let (guid, reference) =
            Account::of(spec).map(|who| (who.guid.is_some(), who.reference.is_some())).unwrap_or_default();
        match step.name {
            StepName::ReadCode | StepName::ReadBackCode => &["codes.read"],
            StepName::RevokeCode => &["codes.revoke"],
            StepName::CheckLicenses if !reference => &["users", "licenses"],
            StepName::CheckLicenses => &["licenses"],
            StepName::OverwriteUser => &["users.update"],
            StepName::TellRequester => &["requester"],
            StepName::Resolve if guid && reference => &["users", "users"],
            _ => &["users"],
        }
    }

    fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let account = Account::of(&call.target.spec).ok_or_else(not_a_step)?;
        match call.step.name {
            StepName::Resolve => self.resolve(&account, call.facts).await,
            StepName::ReadCode | StepName::ReadBackCode => {
                self.read_code(account.code(call.step.item)?, &account, call.facts).await
            }
            StepName::RevokeCode => self.revoke_code(account.code(call.step.item)?).await,
            StepName::CheckLicenses => self.check_licenses(&account, call.facts).await,
            StepName::OverwriteUser => self.overwrite(&account, call.facts).await,
            StepName::ReadBack => self.read_back(&account, call.facts).await,
            StepName::TellRequester => self.tell_requester(&call).await,
            _ => Err(not_a_step()),
        }
    }

    /// With `probe_user` that user must be found, which proves address and key. Without it, the probe reads a user that
    /// does not exist. "Not found" in the interface's own form shows only that the key was accepted.
    async fn probe(&self) -> Result<(), Failure> {
        let nobody = SecretString::from(PROBE_USER);
        match (self.user(self.probe_user.as_ref().unwrap_or(&nobody)).await?, &self.probe_user) {
            (Lookup::Found(_), _) | (Lookup::Missing(_), None) => Ok(()),
            (Lookup::Missing(_), Some(_)) => {
                Err(Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable)
                    .with_note("probe_user is not found: are base_url and api_key right?"))
            }
        }
    }

    fn probe_endpoints(&self) -> &[&'static str] {
        &["users"]
    }
}
