//! The calls of Zeta Loyalty: Member API, Program API, and the deletion file's rows.
//!
//! The rule it keeps: one call for each step. A 404 alone proves nothing, and a 2xx is a success only with the
//! platform's own word for it.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use super::import::{ImportLedger, KeyedDigest};
use super::interface::{self, About, Parsed};
use super::reply;
use super::settings::{Clock, ZetaSettings};
use crate::job::flow::MemberProof;
use crate::job::{
    Answer, Failure, FailureKind, Identity, InputKind, Kind, Member, MemberKey, Note, Reason, RowState, Rules, Spec,
    Step, StepName,
};
use crate::systems::http::{self, Address, Base, BuildError, Effect, Http, HttpSettings, Reply, Request};
use crate::systems::{Call, Credential, KindSettings, Ledgers, Making, SettingsError, System};

const ACCEPT: &str = "application/vnd.stellar-v1+json";
/// No member's id: the platform's ids never contain `~`.
const NOBODY: &str = "erasure-worker~probe";

/// The client of one Loyalty platform.
pub struct ZetaClient {
    name: String,
    settings: ZetaSettings,
    base: Base,
    http: Http,
    credential: Credential,
    import: Option<Arc<ImportLedger>>,
    clock: Clock,
}

impl std::fmt::Debug for ZetaClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZetaClient").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ZetaClient {
    /// Builds the client and opens its import folder. Blocks. `keyed` is described at
    /// [`ImportLedger::open`].
    ///
    /// # Errors
    /// [`SettingsError`] names the setting or the folder.
    pub fn new(
        name: &str,
        settings: ZetaSettings,
        http: &HttpSettings,
        keyed: KeyedDigest,
        clock: Clock,
    ) -> Result<ZetaClient, SettingsError> {
        let base = Base::new("base_url", &settings.base_url)?;
        if let Some(token) = &settings.program_token {
            http::check_credential("program_token", token)?;
        }
        if settings.otp_field.is_empty() || !settings.otp_field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return Err(BuildError::Setting { key: "otp_field", problem: "must be letters, digits and _" }.into());
        }
        if let Some(id) = &settings.probe_member_id
            && (id.expose_secret().trim().is_empty() || base.join("/{id}", &[id.expose_secret()]).is_err())
        {
            return Err(BuildError::Setting { key: "probe_member_id", problem: "cannot stand in an address" }.into());
        }
        let http = Http::new(http, &[&base])?;
        let import = settings.import.clone().map(|import| ImportLedger::open(import, keyed)).transpose()?.map(Arc::new);
        // A member can be read only with the program token.
        let knows_somebody = settings.probe_member_id.is_some() && settings.program_token.is_some();
        let (name, credential) = (name.to_owned(), Credential::new(knows_somebody));
        Ok(ZetaClient { name, settings, base, http, credential, import, clock })
    }

    /// Takes over the deletion file of the client that this client replaces: a process opens each folder once.
    #[must_use]
    pub(crate) fn sharing(mut self, import: Option<Arc<ImportLedger>>) -> ZetaClient {
        self.import = import;
        self
    }

    /// The deletion file, if one is configured.
    pub fn import(&self) -> Option<&Arc<ImportLedger>> {
        self.import.as_ref()
    }

    /// `GET program/api/members/{id}`. The token is accepted only as a query parameter (O).
    async fn program_get(&self, token: &SecretString, id: &str) -> Result<Reply, Failure> {
        let url = self.member_url(id)?;
        let request = Request::get(url).accept(ACCEPT).query(&[("access_token", token.expose_secret())]);
        self.http.send(request, Effect::Read).await
    }

    fn member_url(&self, id: &str) -> Result<Address, Failure> {
        if id.trim().is_empty() {
            return Err(rejected("a blank member id"));
        }
        self.base.join("/program/api/members/{id}", &[id])
    }

    /// Reads a member by Program API and compares. Only a record with an id proves the token. In a read-back another
    /// person's record counts only if it shows the requested value as another kind of id.
    async fn program_read(&self, token: &SecretString, member: &Member, step: StepName) -> Result<Answer, Failure> {
        let reply = self.program_get(token, member.value.expose_secret()).await?;
        match interface::parse(&reply) {
            Some(Parsed::NotFound(not_found)) => Ok(self.credential.absence(not_found)),
            Some(Parsed::Record(record)) => {
                if reply::shows_somebody(&record) {
                    self.credential.prove();
                }
                let identity = reply::identity(&record, member);
                if step == StepName::ReadBack && identity == Identity::Other && !reply::is_namesake(&record, member) {
                    return Err(reply.unreadable(Effect::Read));
                }
                Ok(Answer::Found(identity))
            }
            Some(Parsed::Success) => Ok(Answer::Found(Identity::Unreadable)),
            Some(Parsed::Error(About::Token)) if reply.is_success() => {
                Err(our_credential_refused("HTTP 200 with an error about the token"))
            }
            Some(Parsed::Error(_)) if matches!(reply.status(), 200..300 | 404) => Err(reply.unreadable(Effect::Read)),
            Some(Parsed::Error(_)) => Err(reply.failure(Effect::Read)),
            None => Err(reply.not_from_interface(Effect::Read)),
        }
    }

    /// The token and the member for a Program read; `None` if it is not possible. An e-mail address is not an id there:
    /// its 404 would prove nothing.
    fn readable<'a>(&'a self, member: Option<&'a Member>) -> Option<(&'a SecretString, &'a Member)> {
        Some((self.settings.program_token.as_ref()?, member.filter(|member| member.key != MemberKey::Email)?))
    }

    /// Without a program token the Program API cannot be read. That is not a wrong credential: a hold would stop the
    /// Member API too. So the job is rejected, and an operator corrects the configuration.
    async fn resolve(&self, spec: &Spec) -> Result<Answer, Failure> {
        match spec {
            Spec::LoyaltyProgram { member } | Spec::LoyaltyManual { member } => match self.readable(Some(member)) {
                Some((token, member)) => self.program_read(token, member, StepName::Resolve).await,
                None => Err(rejected("no Program API read: is program_token configured?")),
            },
            Spec::LoyaltyImport { member } => match self.readable(Some(member)) {
                Some((token, member)) => self.program_read(token, member, StepName::Resolve).await,
                None => Ok(Answer::Found(Identity::Unreadable)),
            },
            Spec::LoyaltyMember { access_token, member, .. } => {
                self.profile_read(access_token.as_ref(), member.as_ref()).await
            }
            _ => Err(not_a_step()),
        }
    }

    /// `GET api/profile` is not documented. A platform without it answers 404 in its own form: the identity is then
    /// unreadable. If nothing else of the member can be read, any other 404 counts as a gateway's.
    async fn profile_read(&self, token: Option<&SecretString>, member: Option<&Member>) -> Result<Answer, Failure> {
        let token = token.ok_or_else(|| proof_refused(InputKind::AccessToken))?;
        let Some(member) = member else { return Ok(Answer::Found(Identity::Unreadable)) };
        let request = Request::get(self.base.join("/api/profile", &[])?).accept(ACCEPT).bearer(token);
        let reply = self.http.send(request, Effect::Read).await?;
        match (interface::parse(&reply), reply.status()) {
            (Some(_), 404) => Ok(Answer::Found(Identity::Unreadable)),
            (None, 404) if self.readable(Some(member)).is_some() => Ok(Answer::Found(Identity::Unreadable)),
            (Some(Parsed::Record(record)), _) => Ok(Answer::Found(reply::identity(&record, member))),
            (Some(Parsed::Error(_)), status @ (401 | 403)) => {
                Err(proof_refused(InputKind::AccessToken).with_note(Note::http(status)))
            }
            (Some(Parsed::Error(About::Token)), 200..300) => Err(proof_refused(InputKind::AccessToken)),
            // Not in the platform's own form: it proves nothing about the member's token or ours.
            (_, 200..300) | (None, 400..500) => Err(reply.unreadable(Effect::Read)),
            _ => Err(reply.failure(Effect::Read)),
        }
    }

    /// `GET program/api/members/{id}` again. If that is not possible, nothing can be proven.
    async fn read_back(&self, spec: &Spec, step: StepName) -> Result<Answer, Failure> {
        let member = match spec {
            Spec::LoyaltyProgram { member } | Spec::LoyaltyImport { member } | Spec::LoyaltyManual { member } => {
                Some(member)
            }
            Spec::LoyaltyMember { member, .. } => member.as_ref(),
            _ => return Err(not_a_step()),
        };
        let nothing = || Failure::new(FailureKind::Rejected, Reason::Unproven).with_note("no read-back is possible");
        let (token, member) = self.readable(member).ok_or_else(nothing)?;
        self.program_read(token, member, step).await
    }

    /// `POST api/profile/otp` with the member's token: the platform mails a code (D).
    async fn request_otp(&self, spec: &Spec) -> Result<Answer, Failure> {
        let Spec::LoyaltyMember { access_token, .. } = spec else { return Err(not_a_step()) };
        let token = access_token.as_ref().ok_or_else(|| proof_refused(InputKind::AccessToken))?;
        let effect = Effect::OneTimePassword;
        let request = Request::post(self.base.join("/api/profile/otp", &[])?).accept(ACCEPT).bearer(token);
        let reply = self.http.send(request, effect).await?;
        match (interface::parse(&reply), reply.status()) {
            // The member sees whether a code arrives. To believe the reply erases nothing.
            (Some(Parsed::Success | Parsed::Record(_)), _) => Ok(Answer::Done),
            (Some(Parsed::Error(_)), status @ (401 | 403)) => {
                Err(proof_refused(InputKind::AccessToken).with_note(Note::http(status)))
            }
            (Some(Parsed::Error(About::Token)), 200..300 | 400 | 422) => Err(proof_refused(InputKind::AccessToken)),
            (Some(Parsed::Error(_)), 200..300) => Err(rejected("HTTP 200 with an error")),
            (Some(Parsed::Error(_) | Parsed::NotFound(_)), _) => Err(reply.failure(effect)),
            (None, _) => Err(reply.not_from_interface(effect)),
        }
    }

    async fn delete_member(&self, spec: &Spec) -> Result<Answer, Failure> {
        match spec {
            Spec::LoyaltyProgram { member } => self.program_delete(member).await,
            Spec::LoyaltyMember { access_token, current_password, code, .. } => {
                let token = access_token.as_ref().ok_or_else(|| proof_refused(InputKind::AccessToken))?;
                let proof = match self.settings.member_proof {
                    MemberProof::Password => Some((
                        "current_password",
                        current_password.as_ref().ok_or_else(|| proof_refused(InputKind::CurrentPassword))?,
                    )),
                    MemberProof::Otp => Some((
                        self.settings.otp_field.as_str(),
                        code.as_ref().ok_or_else(|| proof_refused(InputKind::Otp))?,
                    )),
                    MemberProof::Token => None,
                };
                self.profile_delete(token, proof).await
            }
            _ => Err(not_a_step()),
        }
    }

    /// `DELETE program/api/members/{id}`, with the token as a form field, without `Authorization` (D).
    async fn program_delete(&self, member: &Member) -> Result<Answer, Failure> {
        let token = self.settings.program_token.as_ref().ok_or_else(|| rejected("no program_token is configured"))?;
        let url = self.member_url(member.value.expose_secret())?;
        let request = Request::delete(url).accept(ACCEPT).multipart(&[("access_token", token.expose_secret())]);
        let reply = self.http.send(request, Effect::Change).await?;
        match (interface::parse(&reply), reply.status()) {
            (Some(Parsed::Success), _) => {
                self.credential.prove();
                Ok(Answer::Done)
            }
            (Some(Parsed::NotFound(_)), _) | (Some(Parsed::Error(About::NotFound)), 200..300) => {
                Ok(Answer::Unclear(Reason::Unproven))
            }
            (Some(Parsed::Error(About::Token)), 200..300) => {
                Err(our_credential_refused("HTTP 200 with an error about the token"))
            }
            (Some(Parsed::Error(_)), 200..300) => Err(rejected("HTTP 200 with an error")),
            (Some(Parsed::Record(_)), _) | (Some(Parsed::Error(_)), 404) => Err(reply.unreadable(Effect::Change)),
            (Some(Parsed::Error(_)), _) => Err(reply.failure(Effect::Change)),
            (None, _) => Err(reply.not_from_interface(Effect::Change)),
        }
    }

    /// `DELETE api/profile` with the member's token and the proof that the platform requires (D).
    async fn profile_delete(
        &self,
        token: &SecretString,
        proof: Option<(&str, &SecretString)>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::delete(self.base.join("/api/profile", &[])?).accept(ACCEPT).bearer(token);
        if let Some((field, secret)) = proof {
            request = request.multipart(&[(field, secret.expose_secret())]);
        }
        let reply = self.http.send(request, Effect::Change).await?;
        let about = match interface::parse(&reply) {
            Some(Parsed::Success) => return Ok(Answer::Done),
            Some(Parsed::NotFound(_)) => return Ok(Answer::Unclear(Reason::Unproven)),
            // Neither success nor an error: the member may have been deleted.
            Some(Parsed::Record(_)) => return Err(reply.unreadable(Effect::Change)),
            Some(Parsed::Error(about)) => about,
            None => return Err(reply.not_from_interface(Effect::Change)),
        };
        let denied = self.denied(about);
        if reply.is_success() {
            return match about {
                About::NotFound => Ok(Answer::Unclear(Reason::Unproven)),
                _ => Err(denied.unwrap_or_else(|| rejected("HTTP 200 with an error"))),
            };
        }
        let by_mode = match (reply.status(), self.settings.member_proof) {
            (404, _) => return Err(reply.unreadable(Effect::Change)),
            (401, _) | (403, MemberProof::Token) => proof_refused(InputKind::AccessToken),
            (400 | 403 | 422, MemberProof::Password) => Failure::new(FailureKind::Rejected, Reason::WrongPassword),
            (400 | 403 | 422, MemberProof::Otp) => proof_refused(InputKind::Otp),
            _ => return Err(reply.failure(Effect::Change)),
        };
        Err(denied.unwrap_or(by_mode).with_note(Note::http(reply.status())))
    }

    /// The failure for an error with a known subject. If the platform asks for a password and we are configured to send
    /// a code (or the reverse), no proof is wrong: `member_proof` is.
    fn denied(&self, about: About) -> Option<Failure> {
        match (about, self.settings.member_proof) {
            (About::Token, _) => Some(proof_refused(InputKind::AccessToken)),
            (About::Otp, MemberProof::Otp) => Some(proof_refused(InputKind::Otp)),
            (About::Password, MemberProof::Password) => {
                Some(Failure::new(FailureKind::Rejected, Reason::WrongPassword))
            }
            (About::Otp | About::Password, _) => Some(rejected("the platform asks for another proof: member_proof")),
            (About::NotFound | About::Other, _) => None,
        }
    }

    /// A step of the deletion file, outside the async threads.
    async fn row(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let Spec::LoyaltyImport { member } = &call.target.spec else { return Err(not_a_step()) };
        let import = self.import.clone().ok_or_else(|| rejected("no import is configured"))?;
        if !import.accepts(member.key) {
            return Err(rejected("the deletion file is keyed by another kind of id: import.key"));
        }
        let (key, index, value) = (call.job.key.clone(), call.index, member.value.clone());
        let (queues, now) = (call.step.name == StepName::QueueImportRow, (self.clock)());
        let work = move || -> Result<Answer, Failure> {
            if queues {
                import.queue(&key, index, &value, now).map(|_: RowState| Answer::Done)
            } else {
                import.state(&key, index, &value).map(Answer::Row)
            }
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
            let lost = Failure::new(FailureKind::Unavailable, Reason::SystemUnavailable);
            Err(lost.with_note("the import folder's thread ended"))
        })
    }
}

impl KindSettings for ZetaSettings {
    fn secret(&mut self, key: &str) -> Option<&mut SecretString> {
        match key {
            "program_token" => self.program_token.as_mut(),
            "probe_member_id" => self.probe_member_id.as_mut(),
            _ => None,
        }
    }

    fn proven_parts(&self) -> Vec<&str> {
        vec![&self.base_url, self.program_token.as_ref().map_or("", |token| token.expose_secret())]
    }

    fn import_dir(&self) -> Option<&Path> {
        self.import.as_ref().map(|import| import.dir.as_path())
    }

    fn complete(&self, rules: &mut Rules) {
        rules.member_proof = self.member_proof;
        rules.otp_validity = self.otp_validity;
        rules.otp_resend_after = self.otp_resend_after;
        rules.program_reads = self.program_token.is_some();
        rules.preserved.clone_from(&self.preserved);
        rules.import_key = self.import.as_ref().map(|import| import.key);
    }

    fn client(&self, making: Making<'_, '_>) -> Result<Arc<dyn System>, SettingsError> {
        let Making { name, http, keys, imports } = making;
        let mut settings = self.clone();
        if !matches!(imports, Ledgers::Opened(_)) {
            settings.import = None;
        }
        let clock = Arc::new(crate::clock::now);
        let mut client = ZetaClient::new(name, settings, http, Arc::clone(&keys.row_digest), clock)?;
        match imports {
            Ledgers::None => {}
            Ledgers::Opened(opened) => {
                opened.extend(client.import().map(|import| (name.to_owned(), Arc::clone(import))));
            }
            Ledgers::Shared(open) => client = client.sharing(open.get(name).cloned()),
        }
        Ok(Arc::new(client))
    }
}

#[async_trait]
impl System for ZetaClient {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        Kind::ZetaLoyalty
    }

    /// `program`, `member` or `import`. Reads and deletes count as `program`: the step alone does not show which API
    /// it uses.
    fn endpoints(&self, _spec: &Spec, step: Step) -> &[&'static str] {
        match step.name {
            StepName::QueueImportRow | StepName::ImportResult => &["import"],
            StepName::RequestOtp => &["member"],
            _ => &["program"],
        }
    }

    fn credential(&self) -> &Credential {
        &self.credential
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let spec = &call.target.spec;
        match call.step.name {
            // The second read of a Member API target uses the Program API.
            StepName::Resolve if call.step.item > 0 => self.read_back(spec, call.step.name).await,
            StepName::Resolve => self.resolve(spec).await,
            StepName::ReadBack => self.read_back(spec, call.step.name).await,
            StepName::RequestOtp => self.request_otp(spec).await,
            StepName::DeleteMember => self.delete_member(spec).await,
            StepName::QueueImportRow | StepName::ImportResult => self.row(call).await,
            _ => Err(not_a_step()),
        }
    }

    /// With `probe_member_id` that member must be found, which proves the token. Without it, the probe reads a member
    /// that cannot exist: "not found" shows only that the address answers and the token is not refused. Without a
    /// program token, any answer of `api/profile` in the platform's own form is enough.
    async fn probe(&self) -> Result<(), Failure> {
        let Some(token) = &self.settings.program_token else {
            let request = Request::get(self.base.join("/api/profile", &[])?).accept(ACCEPT);
            let reply = self.http.send(request, Effect::Read).await?;
            return match interface::parse(&reply) {
                Some(_) => Ok(()),
                None if reply.status() == 404 => Err(reply.unreadable(Effect::Read).with_note(
                    "HTTP 404, not in the platform's own form: is base_url right? A platform without api/profile \
                     needs a program_token",
                )),
                None => Err(reply.not_from_interface(Effect::Read)),
            };
        };
        let id = self.settings.probe_member_id.as_ref();
        let reply = self.program_get(token, id.map_or(NOBODY, ExposeSecret::expose_secret)).await?;
        match interface::parse(&reply) {
            Some(Parsed::Record(record)) if reply::shows_somebody(&record) => {
                self.credential.prove();
                Ok(())
            }
            Some(Parsed::NotFound(_)) if id.is_some() => Err(our_credential_refused("probe_member_id is not found")),
            Some(Parsed::NotFound(_) | Parsed::Record(_) | Parsed::Success) if id.is_none() => Ok(()),
            Some(Parsed::Error(About::Token)) if reply.is_success() => {
                Err(our_credential_refused("HTTP 200 with an error about the token"))
            }
            Some(Parsed::Error(_)) if !reply.is_success() => Err(reply.failure(Effect::Read)),
            Some(_) => Err(reply.unreadable(Effect::Read)),
            None => Err(reply.not_from_interface(Effect::Read)),
        }
    }

    fn probe_endpoints(&self) -> &[&'static str] {
        &["program"]
    }
}

/// The failure for a wrong credential or address of ours.
fn our_credential_refused(note: &'static str) -> Failure {
    Failure::new(FailureKind::UnauthorisedOurs, Reason::SystemUnavailable).with_note(note)
}

/// A member's proof is refused or missing.
fn proof_refused(proof: InputKind) -> Failure {
    Failure::new(FailureKind::UnauthorisedTheirs(proof), Reason::InputRefused)
}

fn rejected(note: &'static str) -> Failure {
    Failure::new(FailureKind::Rejected, Reason::RequestRejected).with_note(note)
}

fn not_a_step() -> Failure {
    rejected("not a step of this target")
}
