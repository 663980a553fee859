//! Zeta Loyalty, four ways: Program API, Member API (password, one-time password, token), deletion file, and by hand.
//!
//! The rule it keeps: an absence counts as gone only with a proof. A deletion with a lost answer and without a
//! read-back is `unproven`, never erased.

use secrecy::SecretString;
use serde_json::json;

use super::{About, Lines, Spec, fields};
use crate::cursor::{Invalid, Object};
use crate::field::{MAX_PROOF, email, identifier, secret, token};
use crate::flow::{Act, Ask, Confirm, Evidence, FEW, Flow, Go, MOST_ASKS, MemberProof, Next, Rules, Seen};
use crate::identifier::MAX_IDENTIFIER;
use crate::outcome::{InputKind, Reason, TargetEnd, TargetOutcome};
use crate::state::StepState;
use crate::step::{Answer, FailureKind, Identity, RowState, Step, StepName};

pub(super) const KIND: About = About {
    name: "zeta_loyalty",
    confirm: Confirm::Never,
    spec,
    next,
    id_form: None,
    lines: Lines {
        keys: &["member_id", "integration_id", "card_id", "database_id", "email"],
        found_by: &["member_id", "integration_id", "card_id", "database_id", "email"],
        is_enough: true,
        fields: &[],
        needs: None,
        methods: &["program_api", "member_api", "import", "manual"],
        target: |word, value, method| fields([("method", json!(method)), ("member", json!({ word: value }))]),
    },
};

/// Which kind of id names a loyalty member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberKey {
    /// Member ID.
    MemberId,
    /// Integration ID.
    IntegrationId,
    /// Card ID.
    CardId,
    /// Database ID.
    DatabaseId,
    /// E-mail address; for `import` only.
    Email,
}

impl MemberKey {
    /// All keys, in the order in which errors list them.
    pub const ALL: [MemberKey; 5] =
        [MemberKey::MemberId, MemberKey::IntegrationId, MemberKey::CardId, MemberKey::DatabaseId, MemberKey::Email];

    /// The field's name in a job.
    pub const fn as_str(self) -> &'static str {
        match self {
            MemberKey::MemberId => "member_id",
            MemberKey::IntegrationId => "integration_id",
            MemberKey::CardId => "card_id",
            MemberKey::DatabaseId => "database_id",
            MemberKey::Email => "email",
        }
    }
}

/// A loyalty member by one kind of id.
#[derive(Debug, Clone)]
pub struct Member {
    /// The kind of id.
    pub key: MemberKey,
    /// Its value.
    pub value: SecretString,
}

const RESOLVE: Step = Step::one(StepName::Resolve);
/// Member API: the Program API reads the member too, before all other reads. A 404 afterwards is then proven, because
/// the same credential has found the member.
const RESOLVE_BY_PROGRAM: Step = Step::item(StepName::Resolve, 1);
const DELETE: Step = Step::one(StepName::DeleteMember);
const QUEUE: Step = Step::one(StepName::QueueImportRow);
const RESULT: Step = Step::one(StepName::ImportResult);
const READ_BACK: Step = Step::one(StepName::ReadBack);

/// The time in which a person may give a proof before the member is read again.
const PROOF_PAUSE: std::time::Duration = std::time::Duration::from_secs(60);

fn next(flow: &Flow<'_>) -> Go<TargetEnd> {
    match &flow.target.spec {
        Spec::LoyaltyMember { access_token, member, current_password, code } => {
            let given =
                Given { token: access_token.is_some(), password: current_password.is_some(), code: code.is_some() };
            by_member(flow, member.as_ref(), &given)
        }
        Spec::LoyaltyImport { member } => by_import(flow, member),
        Spec::LoyaltyManual { .. } => by_hand(flow),
        _ => by_program(flow),
    }
}

fn by_program(flow: &Flow<'_>) -> Go<TargetEnd> {
    if !somebody(flow)? {
        return Ok(nobody(flow));
    }
    if flow.is_preview() {
        return Ok(flow.previewed());
    }
    if !flow.is_sent(DELETE) {
        flow.approved(StepName::DeleteMember)?;
    }
    flow.confirmed(true, StepName::DeleteMember)?;
    delete(flow, true)
}

/// A proof was refused after a lost answer: the token may have died with the member. So the member is read at
/// intervals, while a new proof is asked for.
fn died_with_member(flow: &Flow<'_>) -> Go<bool> {
    let Some(state) = flow.state.get(DELETE).filter(|state| state.doubted && !state.is_done()) else {
        return Ok(false);
    };
    if !matches!(state.failure, Some((FailureKind::UnauthorisedTheirs(_), _))) {
        return Ok(false);
    }
    match shows(flow, flow.read_after(READ_BACK, state.seq)?) {
        Some(Seen::Done) => Ok(true),
        Some(Seen::NotDone) => match flow.state.get(READ_BACK) {
            Some(state) if flow.now >= state.answered_at.plus(flow.pause(state.answers)) => {
                Err(flow.attempt(READ_BACK, Some(state)))
            }
            _ => Ok(false),
        },
        None => Ok(false),
    }
}

struct Given {
    token: bool,
    password: bool,
    code: bool,
}

/// A member who is gone, by another job or by their own action, can give no proof. So the member is read at intervals
/// while a proof is waited for.
fn by_member(flow: &Flow<'_>, member: Option<&Member>, given: &Given) -> Go<TargetEnd> {
    let next = as_member(flow, member, given);
    let is_proof = |kind| matches!(kind, InputKind::AccessToken | InputKind::CurrentPassword | InputKind::Otp);
    if let (Err(Next::Ask(asks)), Some(read)) = (&next, flow.state.get(RESOLVE_BY_PROGRAM))
        && asks.iter().all(|ask| is_proof(ask.kind))
        && flow.now >= read.answered_at.plus(flow.pause(read.answers).max(PROOF_PAUSE))
    {
        return Err(flow.attempt(RESOLVE_BY_PROGRAM, Some(read)));
    }
    next
}

fn as_member(flow: &Flow<'_>, member: Option<&Member>, given: &Given) -> Go<TargetEnd> {
    let reads_back = member.is_some() && flow.rules.program_reads;
    if reads_back && died_with_member(flow)? {
        return Err(Next::Settle { step: DELETE, done: true });
    }
    if !flow.is_sent(DELETE) {
        if !given.token && !flow.is_preview() {
            return Err(Next::Ask(vec![flow.ask(InputKind::AccessToken, StepName::DeleteMember)]));
        }
        if reads_back && gone_before(flow)? {
            if given.token {
                of_nobody(flow)?;
            }
            return Ok(nobody(flow));
        }
        if member.is_some() && given.token {
            match flow.read(RESOLVE)? {
                Answer::Found(identity) => flow.same_person(*identity)?,
                _ => return flow.failed(Reason::UnreadableReply, StepName::Resolve),
            };
        }
        if flow.is_preview() {
            return Ok(flow.previewed());
        }
        flow.approved(StepName::DeleteMember)?;
        flow.confirmed(true, StepName::DeleteMember)?;
        match flow.rules.member_proof {
            MemberProof::Password if !given.password => {
                return Err(Next::Ask(vec![flow.ask(InputKind::CurrentPassword, StepName::DeleteMember)]));
            }
            MemberProof::Otp => one_time_password(flow, given.code)?,
            MemberProof::Password | MemberProof::Token => {}
        }
    }
    delete(flow, reads_back)
}

/// Whether the Program API proves that there is no such member: then the token is dead too, and no new one is asked
/// for. An unproven 404 is read a few times, then the Member API decides.
fn gone_before(flow: &Flow<'_>) -> Go<bool> {
    match flow.read_any(RESOLVE_BY_PROGRAM)? {
        Answer::Found(identity) => flow.same_person(*identity).map(|_| false),
        Answer::Missing(_) => Ok(true),
        Answer::Unclear(_) => flow.looks_again(RESOLVE_BY_PROGRAM).map_or(Ok(false), Err),
        _ => Ok(false),
    }
}

/// The id names nobody, so the token may belong to another member. A refused token finds nobody: it died with the
/// member. A platform without a readable profile leaves the question open.
fn of_nobody(flow: &Flow<'_>) -> Go<()> {
    if let Some(StepState { failure: Some((FailureKind::UnauthorisedTheirs(_), _)), .. }) = flow.state.get(RESOLVE) {
        return Ok(());
    }
    match flow.read_after(RESOLVE, flow.seq(RESOLVE_BY_PROGRAM))? {
        Answer::Found(Identity::Other) => flow.refused(Reason::IdentityMismatch, StepName::Resolve),
        // The same platform shows the member here, and denies the member there.
        Answer::Found(Identity::Same) => flow.failed(Reason::Unproven, StepName::Resolve),
        Answer::Found(Identity::Unreadable | Identity::Blank) => Ok(()),
        _ => flow.failed(Reason::UnreadableReply, StepName::Resolve),
    }
}

/// Makes sure that a code was sent once, and that it is here. A send in doubt counts as sent: a second code would
/// make the person's first one invalid.
fn one_time_password(flow: &Flow<'_>, has_code: bool) -> Go<()> {
    let sends = flow.state.all(StepName::RequestOtp);
    let latest = u32::try_from(sends.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let mut step = Step::item(StepName::RequestOtp, latest);
    let delete = flow.state.get(DELETE);
    let refusal =
        delete.filter(|state| matches!(state.failure, Some((FailureKind::UnauthorisedTheirs(InputKind::Otp), _))));
    if refusal.is_some_and(|state| state.attempts >= MOST_ASKS) {
        return flow.failed(Reason::InputRefused, StepName::DeleteMember);
    }
    // A given code is tried before another code is sent, no matter who sent it.
    if has_code && refusal.is_none() {
        return Ok(());
    }
    let sent_at = sends.last().map(|state| state.intent_at);
    let asked_anew = match (flow.state.continued, sent_at) {
        (Some((_, at)), Some(sent)) => !has_code && at.since(sent) >= flow.rules.otp_resend_after,
        _ => false,
    };
    if asked_anew {
        step = Step::item(StepName::RequestOtp, latest + 1);
    }
    flow.act(Act::one(step, &[]), |_| Ok(Seen::Done), |_, _| Ok(()))?;
    let sent = flow.state.get(step).map_or(flow.now, |state| state.intent_at);
    Err(Next::Ask(vec![Ask {
        expires_at: Some(sent.plus(flow.rules.otp_validity)),
        ..flow.ask(InputKind::Otp, StepName::DeleteMember)
    }]))
}

/// The deletion and its proof.
fn delete(flow: &Flow<'_>, reads_back: bool) -> Go<TargetEnd> {
    let read_back = |seq| {
        if !reads_back {
            return flow.failed(Reason::Unproven, StepName::DeleteMember);
        }
        flow.looked_twice(DELETE, seq, |answer| shows(flow, answer))
    };
    let unclear = |_, state: &StepState| {
        if state.unclear >= FEW { flow.failed(Reason::NotGone, StepName::DeleteMember) } else { Ok(()) }
    };
    let basis = basis(flow);
    let act = Act { rewrites: reads_back.then_some(READ_BACK), ..Act::one(DELETE, &basis) };
    let evidence = flow.act(act, read_back, unclear)?;
    if reads_back {
        flow.verified(DELETE, |answer| shows(flow, answer))?;
    }
    match evidence {
        Evidence::Answer | Evidence::Before => Ok(TargetEnd::well(TargetOutcome::Erased)),
        Evidence::NotOurs if reads_back => Ok(TargetEnd::well(TargetOutcome::Absent)),
        Evidence::NotOurs => flow.failed(Reason::Unproven, StepName::DeleteMember),
    }
}

/// Every read of the person that the flow has made.
fn basis(flow: &Flow<'_>) -> Vec<Step> {
    [RESOLVE_BY_PROGRAM, RESOLVE].into_iter().filter(|read| flow.state.get(*read).is_some()).collect()
}

fn by_import(flow: &Flow<'_>, member: &Member) -> Go<TargetEnd> {
    // The Program API knows no e-mail addresses.
    let reads_back = flow.rules.program_reads && member.key != MemberKey::Email;
    if reads_back && !flow.is_sent(QUEUE) && !somebody_or_unproven(flow)? {
        return Ok(nobody(flow));
    }
    if flow.is_preview() {
        return Ok(flow.previewed());
    }
    if !flow.state.touched {
        flow.approved(StepName::QueueImportRow)?;
    }
    flow.confirmed(true, StepName::QueueImportRow)?;
    // Queueing is our own action and idempotent: in doubt the row is queued again.
    let unclear = |reason, state: &StepState| {
        if state.unclear >= FEW { flow.failed(reason, StepName::QueueImportRow) } else { Ok(()) }
    };
    flow.act(Act::one(QUEUE, &basis(flow)), |_| Ok(Seen::NotDone), unclear)?;
    let answer = flow.read_after(RESULT, flow.seq(QUEUE))?;
    let Answer::Row(row) = answer else { return flow.failed(Reason::UnreadableReply, StepName::ImportResult) };
    if *row == RowState::Waiting {
        let Some(state) = flow.state.get(RESULT) else { return Err(Next::Call(RESULT)) };
        // The check is cheap and local, and useful only after a pause: until then the target waits for the file.
        if flow.now >= state.answered_at.plus(flow.rules.verify_interval.min(std::time::Duration::from_secs(5))) {
            return Err(Next::Call(RESULT));
        }
        return Err(Next::Ask(vec![flow.ask(InputKind::ImportResult, StepName::ImportResult)]));
    }
    if !reads_back {
        return match row {
            RowState::Deleted => Ok(TargetEnd::well(TargetOutcome::Erased)),
            RowState::Missing => flow.failed(Reason::ImportRowMissing, StepName::ImportResult),
            RowState::Skipped | RowState::Waiting => flow.failed(Reason::Unproven, StepName::ImportResult),
        };
    }
    let is_gone = |answer: &Answer| shows(flow, answer) == Some(Seen::Done);
    match row {
        RowState::Deleted => {
            // The result file is a success answer; an unproven absence does not contradict it.
            let unproven = |answer: &Answer| matches!(answer, Answer::Unclear(Reason::Unproven));
            let answer = flow.poll_after(READ_BACK, RESULT, |answer| unproven(answer) || is_gone(answer))?;
            match answer {
                answer if unproven(answer) => Ok(TargetEnd::well(TargetOutcome::Erased)),
                answer if is_gone(answer) => Ok(TargetEnd::well(TargetOutcome::Erased)),
                _ => flow.failed(Reason::NotGone, StepName::ReadBack),
            }
        }
        RowState::Skipped | RowState::Missing | RowState::Waiting => {
            let reason = if *row == RowState::Missing { Reason::ImportRowMissing } else { Reason::NotGone };
            match shows(flow, flow.read_after(READ_BACK, flow.seq(RESULT))?) {
                Some(Seen::Done) => Ok(TargetEnd::well(TargetOutcome::Absent)),
                Some(Seen::NotDone) => flow.failed(reason, StepName::ImportResult),
                None => flow.failed(Reason::Unproven, StepName::ImportResult),
            }
        }
    }
}

fn by_hand(flow: &Flow<'_>) -> Go<TargetEnd> {
    if !somebody(flow)? {
        return Ok(nobody(flow));
    }
    if flow.is_preview() {
        return Ok(flow.previewed());
    }
    let step = StepName::ReadBack;
    if !flow.state.asked.contains_key(&InputKind::ManualDeletion) {
        flow.approved(step)?;
    }
    let ask = || Next::Ask(vec![flow.ask(InputKind::ManualDeletion, step)]);
    if !flow.state.asked.contains_key(&InputKind::ManualDeletion) {
        return Err(ask());
    }
    let answer = flow.read(READ_BACK)?;
    if *answer == Answer::Found(Identity::Other) {
        return flow.refused(Reason::IdentityMismatch, step);
    }
    if shows(flow, answer) == Some(Seen::Done) {
        return Ok(TargetEnd::well(TargetOutcome::Erased));
    }
    // Between two reads the target waits for a person, which has a limit of its own.
    let Some(state) = flow.state.get(READ_BACK) else { return Err(Next::Call(READ_BACK)) };
    if flow.now < state.answered_at.plus(flow.pause(state.answers)) {
        return Err(ask());
    }
    Err(flow.attempt(READ_BACK, Some(state)))
}

/// Whether the Program API shows the member of the job.
fn somebody(flow: &Flow<'_>) -> Go<bool> {
    match flow.read(RESOLVE)? {
        Answer::Found(identity) => flow.same_person(*identity),
        Answer::Missing(_) => Ok(false),
        _ => flow.failed(Reason::UnreadableReply, StepName::Resolve),
    }
}

/// As [`somebody`], for the deletion file: after an unproven 404 the row still goes into the file.
fn somebody_or_unproven(flow: &Flow<'_>) -> Go<bool> {
    match flow.read_any(RESOLVE)? {
        Answer::Missing(_) => Ok(false),
        Answer::Unclear(Reason::Unproven) => Ok(true),
        Answer::Found(identity) => flow.same_person(*identity),
        _ => flow.failed(Reason::UnreadableReply, StepName::Resolve),
    }
}

fn nobody(flow: &Flow<'_>) -> TargetEnd {
    if flow.is_preview() { flow.previewed() } else { TargetEnd::well(TargetOutcome::Absent) }
}

/// A read-back by the Program API. This target's own first read is no proof any more: address or credential may have
/// changed. Another member may appear because the member is gone and the other one has the same value as another kind
/// of id, but also because the member was merged into another one: that alone proves nothing.
fn shows(flow: &Flow<'_>, answer: &Answer) -> Option<Seen> {
    let by_member = matches!(flow.target.spec, Spec::LoyaltyMember { .. });
    let accepted = flow.state.get(DELETE).is_some_and(|state| matches!(state.answer, Some(Answer::Done)));
    let row_deleted = flow.state.get(RESULT).is_some_and(|state| state.answer == Some(Answer::Row(RowState::Deleted)));
    match answer {
        Answer::Missing(_) => Some(Seen::Done),
        Answer::Found(Identity::Other) if accepted || row_deleted => Some(Seen::Done),
        Answer::Found(Identity::Other) => None,
        Answer::Found(_) => Some(Seen::NotDone),
        // The Member API's own success answer is proof by itself, and an absence does not contradict it.
        Answer::Unclear(Reason::Unproven) if by_member && accepted => Some(Seen::Done),
        _ => None,
    }
}

fn spec(object: &mut Object<'_>, rules: &Rules) -> Result<Spec, Invalid> {
    const IDS: [MemberKey; 4] =
        [MemberKey::MemberId, MemberKey::IntegrationId, MemberKey::CardId, MemberKey::DatabaseId];
    match object.need_text("method")? {
        "program_api" => Ok(Spec::LoyaltyProgram { member: need_member(object, &IDS)? }),
        "manual" => Ok(Spec::LoyaltyManual { member: need_member(object, &IDS)? }),
        "import" => {
            let keys = [MemberKey::IntegrationId, MemberKey::MemberId, MemberKey::Email];
            let member = need_member(object, &keys)?;
            match rules.import_key {
                None => Err(Invalid::at(
                    object.path_of("method"),
                    "import is not configured for this system; expected program_api, member_api or manual",
                )),
                Some(key) if key != member.key => Err(Invalid::at(
                    object.path_of("member"),
                    format!("expected {}, the key of this system's import file", key.as_str()),
                )),
                Some(_) => Ok(Spec::LoyaltyImport { member }),
            }
        }
        "member_api" => {
            let access_token = token(object, "access_token")?;
            let member = member(object, &IDS)?;
            if access_token.is_none() && member.is_none() {
                return Err(Invalid::at(
                    object.path_of("access_token"),
                    "is missing; expected access_token, member or both",
                ));
            }
            let current_password = secret(object, "current_password", MAX_PROOF)?;
            let code = secret(object, "code", MAX_IDENTIFIER)?;
            Ok(Spec::LoyaltyMember { access_token, member, current_password, code })
        }
        _ => Err(Invalid::at(object.path_of("method"), "expected program_api, member_api, import or manual")),
    }
}

fn need_member(object: &mut Object<'_>, keys: &[MemberKey]) -> Result<Member, Invalid> {
    member(object, keys)?.ok_or_else(|| object.missing("member"))
}

fn member(object: &mut Object<'_>, keys: &[MemberKey]) -> Result<Option<Member>, Invalid> {
    let path = object.path_of("member");
    let Some(node) = object.take("member") else { return Ok(None) };
    let mut inner = object.within(node, path.clone())?;
    let mut found = Vec::new();
    for key in MemberKey::ALL.into_iter().filter(|key| keys.contains(key)) {
        let value =
            if key == MemberKey::Email { email(&mut inner, "email")? } else { identifier(&mut inner, key.as_str())? };
        if let Some(value) = value {
            found.push(Member { key, value });
        }
    }
    inner.finish()?;
    match (found.pop(), found.is_empty()) {
        (Some(member), true) => Ok(Some(member)),
        _ => {
            let names: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
            Err(Invalid::at(path, format!("expected exactly one of {}", names.join(", "))))
        }
    }
}
