//! The persons and operators who answer requests for input.

use std::collections::BTreeSet;

use erasure_worker::sandbox::MemberKey;
use serde_json::Value;
use testkit::events::Heard;
use testkit::forms::Case;
use testkit::rig::Rig;

/// The kinds of input that the job has requested, in order.
fn asked(heard: &Heard, case: &Case) -> Vec<String> {
    let questions = heard.of(&case.id).iter().filter(|event| event["data"]["outcome"] == "needs_input");
    let kind = |event: &Value| event["data"]["inputs"][0]["kind"].as_str().unwrap().to_owned();
    questions.map(kind).collect()
}

/// Answers every request for input; the first one-time password is wrong. Never ends by itself.
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
