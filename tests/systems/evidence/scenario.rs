//! Each flow, with each form of the stand-ins' answers.
//!
//! The rule it keeps: there is always a second person, whom the client reads before the scenario's first call.

use std::sync::Arc;
use std::time::Duration;

use erasure_worker::job::flow::{Ask, Confirm, Limits, MemberProof};
use erasure_worker::job::{Confirmation, InputKind, Job, Kind, Member, MemberKey, Rules, Spec, Step, StepName, Target};
use erasure_worker::sandbox::{
    Anonymised, EntitlementStatus, ErrorBody, Licence, ListShape, MemberShape, Person, RpcError, Sandbox, TotalCount,
    UnknownUser, UpdateReply, WontRevoke, mint_jwt,
};
use erasure_worker::systems::cleeng::{Cleeng, CleengSettings, Termination};
use erasure_worker::systems::easycms::{EasyCms, EasyCmsSettings};
use erasure_worker::systems::http::{HttpSettings, Wire};
use erasure_worker::systems::vitalsource::{VitalSource, VitalSourceSettings};
use erasure_worker::systems::zeta::{ZetaClient, ZetaSettings};
use erasure_worker::systems::{Call, Facts, System};

use super::relay::Relay;
use crate::stub;

/// The person to erase, another existing person, and an unknown one.
pub const PERSON: u64 = 1;
pub const OTHER: u64 = 2;
pub const NOBODY: u64 = 3;

type Seed = fn(&Sandbox);

/// One target and its world.
pub struct Scenario {
    pub name: &'static str,
    pub spec: Spec,
    pub rules: Rules,
    pub termination: Termination,
    seed: Seed,
    sandbox: std::cell::RefCell<Option<Sandbox>>,
}

impl Scenario {
    pub fn new(name: &'static str, spec: Spec, seed: Seed) -> Scenario {
        let kind = match &spec {
            Spec::CleengBackend { .. } | Spec::CleengMediastore { .. } => Kind::Cleeng,
            Spec::EasyCms { .. } => Kind::EasyCms,
            Spec::VitalSource { .. } => Kind::VitalSource,
            _ => Kind::ZetaLoyalty,
        };
        let rules = Rules { strict_identity: true, confirm: Confirm::Never, ..Rules::new(kind) };
        Scenario { name, spec, rules, termination: Termination::JsonRpc, seed, sandbox: Default::default() }
    }

    fn but(mut self, change: impl FnOnce(&mut Scenario)) -> Scenario {
        change(&mut self);
        self
    }

    pub fn kind(&self) -> Kind {
        self.rules.kind
    }

    /// Limits for a test in virtual time.
    pub fn limits(&self) -> Limits {
        Limits {
            max_attempts: 8,
            max_elapsed: Duration::from_secs(72 * 3600),
            max_interval: Duration::from_secs(900),
            input_max: Duration::from_secs(14 * 86_400),
            pending_max: Duration::from_secs(600),
            approval_max: Duration::from_secs(14 * 86_400),
        }
    }

    /// A new world.
    pub fn world(&self) -> Sandbox {
        let sandbox = Sandbox::default();
        sandbox.add_people(PERSON..OTHER + 1);
        (self.seed)(&sandbox);
        *self.sandbox.borrow_mut() = Some(sandbox.clone());
        sandbox
    }

    /// The personal data that is left in the target's system.
    pub fn remains(&self) -> Vec<&'static str> {
        let word = match self.kind() {
            Kind::Cleeng => "cleeng",
            Kind::ZetaLoyalty => "loyalty",
            Kind::EasyCms => "easycms",
            Kind::VitalSource => "vitalsource",
            Kind::Connector | Kind::Sql | Kind::Webhook => unreachable!("no spec here is a connector's"),
        };
        let sandbox = self.sandbox.borrow();
        let sandbox = sandbox.as_ref().expect("a world");
        let left = sandbox.remains(&Person::numbered(PERSON));
        if self.is_of_nobody() { Vec::new() } else { left.into_iter().filter(|what| what.starts_with(word)).collect() }
    }

    fn is_of_nobody(&self) -> bool {
        self.name.ends_with("of nobody")
    }

    pub fn job(&self) -> Job {
        stub::job(self.spec.clone())
    }

    /// Gives a requested input; false if there is none.
    pub fn give(&self, job: &mut Job, ask: &Ask) -> bool {
        let sandbox = self.sandbox.borrow();
        let sandbox = sandbox.as_ref().expect("a world");
        let target = &mut job.targets[0];
        match (ask.kind, &mut target.spec) {
            (InputKind::Confirmation, _) => {
                let at = "2026-11-22T10:00:00Z".parse().expect("time");
                let by = "subject".into();
                target.confirmation = Some(Confirmation { confirmed_at: at, by });
            }
            (InputKind::Otp, Spec::LoyaltyMember { code, .. }) => {
                let sent =
                    sandbox.world(|world| world.loyalty("loyalty").mailbox("db-1").map(|(code, _)| code.to_owned()));
                let Some(sent) = sent else { return false };
                *code = Some(sent.into());
            }
            _ => return false,
        }
        true
    }

    /// A client over the relay.
    pub fn client(&self, relay: &Relay) -> Box<dyn System> {
        let wire = Wire::InProcess(Arc::new(relay.clone()));
        let http = HttpSettings { wire, ..HttpSettings::default() };
        let base = |path: &str| format!("http://stand-ins/{path}");
        match self.kind() {
            Kind::Connector | Kind::Sql | Kind::Webhook => unreachable!("no spec here is a connector's"),
            Kind::Cleeng => {
                let settings = CleengSettings {
                    core_url: base("cleeng/core"),
                    rpc_url: base("cleeng/rpc"),
                    mediastore_url: base("cleeng/mediastore"),
                    publisher_token: "publisher-token".into(),
                    termination: self.termination,
                    probe_customer_id: None,
                };
                Box::new(Cleeng::new("cleeng", settings, &http).expect("client"))
            }
            Kind::EasyCms => {
                let settings = EasyCmsSettings {
                    base_url: base("easycms"),
                    delete_path: "/public_api/set_customer_delete_account".into(),
                    authorization: "easycms-token".into(),
                    username: "shop".into(),
                    password: "easycms-password".into(),
                    account: "1".into(),
                    probe_email: None,
                };
                Box::new(EasyCms::new("easycms", settings, &http).expect("client"))
            }
            Kind::VitalSource => {
                let settings = VitalSourceSettings {
                    base_url: base("vitalsource"),
                    api_key: "VITALSOURCEKEY".into(),
                    check_licenses: true,
                    replacement_email_domain: "example.com".into(),
                    abandon_url: None,
                    abandon_private: false,
                    probe_user: None,
                };
                let signer = Arc::new(|_: &[u8]| String::new());
                Box::new(VitalSource::new("vitalsource", settings, &http, signer).expect("client"))
            }
            Kind::ZetaLoyalty => {
                let settings = ZetaSettings {
                    base_url: base("loyalty"),
                    program_token: Some("program-token".into()),
                    member_proof: self.rules.member_proof,
                    otp_field: "code".into(),
                    otp_validity: self.rules.otp_validity,
                    otp_resend_after: self.rules.otp_resend_after,
                    preserved: Vec::new(),
                    probe_member_id: None,
                    import: None,
                };
                let clock = Arc::new(|| "2026-11-22T10:00:00Z".parse().expect("time"));
                let keyed = Arc::new(|_: &[u8]| [0; 16]);
                Box::new(ZetaClient::new("loyalty", settings, &http, keyed, clock).expect("client"))
            }
        }
    }

    /// Makes the client read the other person, as an earlier job would.
    pub async fn see_somebody(&self, client: &dyn System) {
        let other = Person::numbered(OTHER);
        let spec = match self.kind() {
            Kind::Cleeng => backend(&other),
            Kind::ZetaLoyalty => Spec::LoyaltyProgram { member: by_member_id(&other) },
            Kind::EasyCms => shop(&other),
            Kind::VitalSource => reader(&other, true, false),
            Kind::Connector | Kind::Sql | Kind::Webhook => unreachable!("no spec here is a connector's"),
        };
        let job = stub::job(spec);
        let target: &Target = &job.targets[0];
        let (step, facts) = (Step::one(StepName::Resolve), Facts::default());
        let said = client.call(Call { job: &job, target, index: 0, step, facts: &facts }).await;
        said.expect("the other person is there");
        assert!(client.credential().is_proven(), "{}: the credential is not proven", self.name);
    }
}

fn backend(person: &Person) -> Spec {
    Spec::CleengBackend { customer_id: person.customer_id.clone().into(), customer_email: person.email.clone().into() }
}

fn mediastore(person: &Person) -> Spec {
    Spec::CleengMediastore {
        customer_token: mint_jwt(&person.customer_id, None).into(),
        customer_id: person.customer_id.clone().into(),
        customer_email: person.email.clone().into(),
    }
}

fn by_member_id(person: &Person) -> Member {
    Member { key: MemberKey::MemberId, value: person.member_id.clone().into() }
}

fn program(person: &Person) -> Spec {
    Spec::LoyaltyProgram { member: by_member_id(person) }
}

fn member_api(person: &Person, named: bool) -> Spec {
    Spec::LoyaltyMember {
        access_token: Some(person.access_token.clone().into()),
        member: named.then(|| by_member_id(person)),
        current_password: Some(person.current_password.clone().into()),
        code: None,
    }
}

fn shop(person: &Person) -> Spec {
    Spec::EasyCms {
        email: person.email.clone().into(),
        customer_password: Some(person.customer_password.clone().into()),
    }
}

pub fn reader(person: &Person, by_guid: bool, by_reference: bool) -> Spec {
    let code =
        |code: &String| erasure_worker::job::Code { code: code.clone().into(), redeemed_at: None, percent_read: None };
    Spec::VitalSource {
        guid: by_guid.then(|| person.guid.clone().into()),
        reference: by_reference.then(|| person.reference.clone().into()),
        codes: person.codes.iter().map(code).collect(),
        overwrite: Default::default(),
    }
}

pub fn all() -> Vec<Scenario> {
    let (ann, nobody) = (&Person::numbered(PERSON), &Person::numbered(NOBODY));
    let mut wrong = Person::numbered(PERSON);
    wrong.email = Person::numbered(OTHER).email;
    wrong.current_password = "wrong".into();
    wrong.customer_password = "wrong".into();
    let lost = Person { customer_id: nobody.customer_id.clone(), ..Person::numbered(PERSON) };
    let with = |change: fn(&mut Rules)| move |scenario: &mut Scenario| change(&mut scenario.rules);
    let mut found = vec![
        Scenario::new("cleeng backend", backend(ann), |_| {}),
        Scenario::new("cleeng backend, other shapes", backend(ann), |sandbox| {
            sandbox.world(|world| {
                let settings = &mut world.cleeng("cleeng").settings;
                settings.anonymised = Anonymised::Scrubbed;
                settings.list_shape = ListShape::Data;
                settings.rpc_error = RpcError::Null;
            });
        }),
        Scenario::new("cleeng backend by id", backend(ann), |_| {}).but(|it| it.termination = Termination::Core),
        Scenario::new("cleeng mediastore", mediastore(ann), |_| {}),
        Scenario::new("cleeng backend, shared", backend(ann), |sandbox| {
            change_customer(sandbox, |customer| customer.shared = true);
        }),
        Scenario::new("cleeng backend, one that will not end", backend(ann), |sandbox| {
            change_customer(sandbox, |customer| customer.entitlements[0].wont_terminate = true);
        }),
        Scenario::new("cleeng backend, all ended", backend(ann), |sandbox| {
            change_customer(sandbox, |customer| {
                customer.entitlements.iter_mut().for_each(|row| row.status = EntitlementStatus::Terminated);
            });
        }),
        Scenario::new("cleeng backend of another e-mail", backend(&wrong), |_| {}),
        Scenario::new("cleeng backend of nobody", backend(nobody), |_| {}),
        Scenario::new("cleeng backend, other shapes, of nobody", backend(nobody), |sandbox| {
            sandbox.world(|world| world.cleeng("cleeng").settings.list_shape = ListShape::Data);
        }),
        Scenario::new("cleeng backend, an id of nobody's", backend(&lost), |_| {}),
        Scenario::new("easycms", shop(ann), |_| {}),
        Scenario::new("easycms, a count as text", shop(ann), |sandbox| {
            sandbox.world(|world| world.easycms("easycms").settings.total_count = TotalCount::String);
        }),
        Scenario::new(
            "easycms, another password",
            Spec::EasyCms { email: ann.email.clone().into(), customer_password: Some("wrong".into()) },
            |_| {},
        ),
        Scenario::new("easycms of nobody", shop(nobody), |_| {}),
    ];
    for (name, error_body, shape) in [
        ("loyalty program", ErrorBody::Error, MemberShape::Flat),
        ("loyalty program, other shapes", ErrorBody::Name, MemberShape::Data),
        ("loyalty program, plain text", ErrorBody::Text, MemberShape::Flat),
    ] {
        found.push(Scenario::new(name, program(ann), |_| {}).but(|it| it.seed = loyalty_seed(error_body, shape)));
    }
    found.push(Scenario::new("loyalty program of nobody", program(nobody), |_| {}));
    for named in [true, false] {
        let name = |with, without| if named { with } else { without };
        found.extend([
            Scenario::new(
                name("loyalty member by password", "loyalty token by password"),
                member_api(ann, named),
                |_| {},
            ),
            Scenario::new(
                name("loyalty member by wrong password", "loyalty token by wrong password"),
                member_api(&wrong, named),
                |_| {},
            ),
            Scenario::new(name("loyalty member by otp", "loyalty token by otp"), member_api(ann, named), |sandbox| {
                sandbox.world(|world| {
                    world.loyalty("loyalty").settings.member_proof = erasure_worker::sandbox::MemberProof::Otp;
                });
            })
            .but(with(|rules| rules.member_proof = MemberProof::Otp)),
            Scenario::new(
                name("loyalty member by token", "loyalty token by token"),
                member_api(ann, named),
                |sandbox| {
                    sandbox.world(|world| {
                        world.loyalty("loyalty").settings.member_proof = erasure_worker::sandbox::MemberProof::Token;
                    });
                },
            )
            .but(with(|rules| rules.member_proof = MemberProof::Token)),
        ]);
    }
    found.extend(vitalsource(ann, nobody));
    found
}

fn vitalsource(ann: &Person, nobody: &Person) -> Vec<Scenario> {
    vec![
        Scenario::new("vitalsource", reader(ann, true, true), |_| {}),
        Scenario::new("vitalsource by guid, other shapes", reader(ann, true, false), |sandbox| {
            sandbox.world(|world| {
                let settings = &mut world.vitalsource("vitalsource").settings;
                settings.update_reply = UpdateReply::Empty;
                settings.unknown_user = UnknownUser::ErrorOnOk;
                settings.already_cancelled_status = 422;
            });
        }),
        Scenario::new("vitalsource by reference, an expired licence", reader(ann, false, true), |sandbox| {
            sandbox.world(|world| {
                world.vitalsource("vitalsource").add_licence(Licence {
                    owner: "GUID000000000001".into(),
                    sku: "OLD".into(),
                    expiration: "Thu, 10 Mar 2016 22:14:54 GMT".into(),
                });
            });
        }),
        Scenario::new("vitalsource, a licence that nobody gave", reader(ann, true, true), |sandbox| {
            sandbox.world(|world| {
                world.vitalsource("vitalsource").add_licence(Licence {
                    owner: "GUID000000000001".into(),
                    sku: "GIFT".into(),
                    expiration: "never".into(),
                });
            });
        }),
        Scenario::new("vitalsource, a code that stays", reader(ann, true, true), |sandbox| {
            refuse(sandbox, 1005, false)
        }),
        Scenario::new("vitalsource, a code that goes all the same", reader(ann, true, true), |sandbox| {
            refuse(sandbox, 1007, true);
        }),
        // A code that was never redeemed has no licence: only its own read shows it.
        Scenario::new("vitalsource, a code never redeemed that stays", reader(ann, true, true), |sandbox| {
            sandbox.world(|world| {
                let vitalsource = world.vitalsource("vitalsource");
                let mut code = vitalsource.code(&Person::numbered(PERSON).codes[1]).expect("code").clone();
                code.wont_revoke = Some(WontRevoke { code: 1005, content_removed: false, times: None });
                vitalsource.add_code(code);
            });
        }),
        Scenario::new("vitalsource, a code of before", reader(ann, true, true), |sandbox| {
            change_code(sandbox, |code| code.cancelled = true);
        }),
        Scenario::new("vitalsource, another's code", reader(ann, true, true), |sandbox| {
            change_code(sandbox, |code| code.owner = Some("GUID000000000002".into()));
        }),
        Scenario::new("vitalsource of nobody", reader(nobody, true, true), |_| {}),
        Scenario::new("vitalsource, on 200, of nobody", reader(nobody, true, true), |sandbox| {
            sandbox.world(|world| world.vitalsource("vitalsource").settings.unknown_user = UnknownUser::ErrorOnOk);
        }),
    ]
}

fn loyalty_seed(error_body: ErrorBody, shape: MemberShape) -> Seed {
    match (error_body, shape) {
        (ErrorBody::Name, _) => |sandbox| {
            sandbox.world(|world| {
                world.loyalty("loyalty").settings.error_body = ErrorBody::Name;
                world.loyalty("loyalty").settings.member_shape = MemberShape::Data;
            });
        },
        (ErrorBody::Text, _) => |sandbox| {
            sandbox.world(|world| world.loyalty("loyalty").settings.error_body = ErrorBody::Text);
        },
        _ => |_| {},
    }
}

fn change_customer(sandbox: &Sandbox, change: impl FnOnce(&mut erasure_worker::sandbox::Customer)) {
    sandbox.world(|world| {
        let cleeng = world.cleeng("cleeng");
        let mut customer = cleeng.customer(&Person::numbered(PERSON).customer_id).expect("customer").clone();
        change(&mut customer);
        cleeng.add(customer);
    });
}

fn change_code(sandbox: &Sandbox, change: impl FnOnce(&mut erasure_worker::sandbox::Code)) {
    sandbox.world(|world| {
        let vitalsource = world.vitalsource("vitalsource");
        let mut code = vitalsource.code(&Person::numbered(PERSON).codes[0]).expect("code").clone();
        change(&mut code);
        vitalsource.add_code(code);
    });
}

fn refuse(sandbox: &Sandbox, number: u16, content_removed: bool) {
    change_code(sandbox, |code| code.wont_revoke = Some(WontRevoke { code: number, content_removed, times: None }));
}
