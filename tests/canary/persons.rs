//! The people and operators whom jobs wait for.

use std::collections::BTreeSet;

use erasure_worker::sandbox::MemberKey;
use serde_json::Value;
use testkit::events::Heard;
use testkit::forms::Case;
use testkit::rig::Rig;

/// What the job's latest question asks for; empty where it asked nothing.
fn asked(heard: &Heard, case: &Case) -> Vec<String> {
    let questions = heard.of(&case.id).iter().filter(|event| event["data"]["outcome"] == "needs_input");
    let kind = |event: &Value| event["data"]["inputs"][0]["kind"].as_str().unwrap().to_owned();
    questions.map(kind).collect()
}

/// Gives everybody what they are asked for. Never ends by itself. A one-time password is first
/// given wrongly.
pub async fn answer_everybody(rig: &Rig, cases: &[Case], wrong_code: &str) {
    let mut answered: BTreeSet<(String, usize)> = BTreeSet::new();
    loop {
        let open = |heard: &Heard| {
            let questions = cases.iter().map(|case| (case.id.clone(), asked(heard, case).len()));
            questions.filter(|question| question.1 > 0 && !answered.contains(question)).collect::<Vec<_>>()
        };
        let heard = rig.events.followed(|heard| !open(heard).is_empty()).await;
        for question in open(&heard) {
            let case = cases.iter().find(|case| case.id == question.0).unwrap();
            match asked(&heard, case).last().unwrap().as_str() {
                "confirmation" => rig.publish(&[case.answered(None)]).await,
                "otp" if question.1 == 1 => rig.publish(&[case.answered(Some(wrong_code))]).await,
                "otp" => {
                    let id = &case.person.database_id;
                    let code = rig
                        .sandbox()
                        .world(|world| world.loyalty("loyalty@codes").mailbox(id).map(|(code, _)| code.to_owned()));
                    rig.publish(&[case.answered(code.as_deref())]).await;
                }
                "manual_deletion" => {
                    let id = &case.person.integration_id;
                    rig.sandbox()
                        .world(|world| world.loyalty("loyalty").delete_by_hand(MemberKey::IntegrationId, id, 0));
                    rig.publish(std::slice::from_ref(&case.body)).await;
                }
                _ => {}
            }
            answered.insert(question);
        }
    }
}
