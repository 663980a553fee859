use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::broker::HeaderValue;
use crate::broker::Properties;
use crate::engine::header;
use crate::engine::stage::Stage;
use crate::job::wait::Waiting;

fn key(number: u128) -> JobKey {
    JobKey { tenant: "acme".into(), job_id: uuid::Uuid::from_u128(number) }
}

/// The broker's next delivery: a copy of a job, or with `None` another message.
fn delivery(epoch: u64, copy: Option<(&JobKey, u64)>) -> Message {
    let mut properties = Properties::default();
    if let Some((key, number)) = copy {
        let mut put = |name: &str, value| properties.headers.insert(name.to_owned(), value);
        put(header::TENANT, HeaderValue::Text(key.tenant.clone()));
        put(header::JOB_ID, HeaderValue::Text(key.job_id.to_string()));
        put(header::PARK, HeaderValue::Int(i64::try_from(number).unwrap()));
    }
    Message {
        body: Bytes::new(),
        properties,
        via: Via::Resume,
        redelivered: false,
        lost: CancellationToken::new(),
        epoch,
    }
}

/// A job whose store row says that copy 7 was confirmed on a tier, and the broker's real copies.
struct World {
    parked: Parked,
    record: JobRecord,
    began: Instant,
}

const NEWEST: u64 = 7;

impl World {
    fn new(tier: Tier) -> World {
        let stage = Stage::new();
        let mut record = stage.open(1, Origin::Publisher).with(|state| state.record.clone());
        let until = At(0).plus(tier.wait());
        (record.park_written, record.park_confirmed, record.waiting) = (NEWEST, NEWEST, Some((Waiting::Input, until)));
        World { parked: Parked::default(), record, began: Instant::now() }
    }

    fn now(&self) -> At {
        At(0).plus(self.began.elapsed())
    }
}

/// Delivers an older copy until it is settled. `newest`: the time at which the newest copy is redelivered; `breaks`:
/// the interval of lost links. Returns the time that it took, and whether the copy was worked on.
async fn settled(tier: Tier, newest: Option<Duration>, breaks: Option<Duration>, restart: bool) -> (Duration, bool) {
    let mut world = World::new(tier);
    let (mut wait, mut epoch) = (None::<String>, 1);
    let mut broken_at = Instant::now();
    let mut comes = Instant::now();
    let mut is_here = false;
    world.parked.delivered(&delivery(epoch, None));
    loop {
        // Each minute a message is delivered, or the link breaks.
        while Instant::now() < comes {
            tokio::time::advance(Duration::from_secs(1)).await;
            if breaks.is_some_and(|every| broken_at.elapsed() >= every) {
                (broken_at, epoch) = (Instant::now(), epoch + 1);
                if restart {
                    world.parked = Parked::default();
                }
                world.parked.delivered(&delivery(epoch, None));
            }
            if !is_here && newest.is_some_and(|at| world.began.elapsed() >= at) {
                is_here = true;
                world.parked.delivered(&delivery(epoch, Some((&key(1), NEWEST))));
                // Worked on, and parked again.
                world.record.park_written += 1;
                world.record.park_confirmed += 1;
                world.parked.parked(&key(1), (1, world.record.park_confirmed), Tier::H1);
            }
        }
        match world.parked.judge(&key(1), &world.record, wait.as_deref(), world.now()) {
            Older::Passed => return (world.began.elapsed(), false),
            Older::Best => return (world.began.elapsed(), true),
            Older::Waits { marker, tier } => {
                wait = Some(marker);
                comes = Instant::now() + tier.wait();
            }
        }
        assert!(world.began.elapsed() < 100 * LONGEST, "it turns in circles");
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_copy_is_acked_once_a_newer_one_has_been_by_and_worked_on_where_none_is_left() {
    let mut count = 0;
    for tier in Tier::ALL {
        for restart in [false, true] {
            for breaks in [None, Some(Duration::from_secs(2 * 3600)), Some(Duration::from_secs(5 * 3600))] {
                // The newest copy is redelivered at its time, or later if the queue is long.
                for late in [0, 20, 600, 3000] {
                    let at = (tier.wait() + Duration::from_secs(late)).min(LONGEST - Duration::from_secs(60));
                    let (_, worked) = settled(tier, Some(at), breaks, restart).await;
                    assert!(!worked, "{tier:?} {late} {breaks:?}: two copies of a job would be worked on");
                    count += 1;
                }
                let (took, worked) = settled(tier, None, breaks, restart).await;
                assert!(worked, "{tier:?} {breaks:?}: the job is lost");
                assert!(took >= LONGEST - DRIFT, "{tier:?}: too soon, after {took:?}");
                count += 1;
            }
        }
    }
    // Without a link that lasts an hour, nothing proves that the newest copy is gone.
    let (took, worked) =
        settled(Tier::S5, Some(Duration::from_secs(9 * 3600)), Some(Duration::from_secs(1800)), false).await;
    assert!(!worked && took >= Duration::from_secs(9 * 3600), "{took:?}");
    println!("{} lives of an older copy", count + 1);
}

#[tokio::test(start_paused = true)]
async fn what_this_link_confirmed_is_there_until_its_time_is_over() {
    for tier in Tier::ALL {
        let world = World::new(tier);
        world.parked.delivered(&delivery(1, None));
        world.parked.parked(&key(1), (1, NEWEST), tier);
        let judged = |wait| world.parked.judge(&key(1), &world.record, wait, world.now());
        assert!(matches!(judged(None), Older::Passed), "{tier:?}");
        tokio::time::advance(tier.wait()).await;
        assert!(matches!(judged(None), Older::Passed), "{tier:?}");
        tokio::time::advance(SLACK).await;
        assert!(matches!(judged(None), Older::Waits { .. }), "{tier:?}: it has not come back");
        // Another link, and its confirms.
        world.parked.parked(&key(1), (1, NEWEST), tier);
        world.parked.delivered(&delivery(2, None));
        assert!(matches!(judged(None), Older::Waits { .. }), "{tier:?}: another link");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_does_not_come_back_is_missed_when_its_time_is_over_and_found_when_it_comes_after_all() {
    for tier in Tier::ALL {
        let stage = Stage::new();
        let engine = &stage.engine;
        let mut names = Vec::new();
        engine.parked.delivered(&delivery(1, None));
        for number in 0..5 {
            let journal = stage.open(number, Origin::Publisher);
            let key = stage.job(number).key;
            journal.change_record(|record| (record.park_written, record.park_confirmed) = (1, 1));
            journal.write(&*engine.store, Vec::new(), crate::store::Batch::new()).unwrap();
            engine.parked.parked(&key, (1, 1), tier);
            names.push(key);
        }
        // One is redelivered; one has ended elsewhere, by the numbers.
        engine.parked.delivered(&delivery(1, Some((&names[0], 1))));
        tokio::time::advance(tier.wait() + SLACK - Duration::from_secs(1)).await;
        engine.report_missing().unwrap();
        assert_eq!(engine.parked.view().missing, []);
        tokio::time::advance(Duration::from_secs(1)).await;
        engine.report_missing().unwrap();
        assert_eq!(engine.parked.view().missing, names[1..]);
        engine.parked.delivered(&delivery(1, Some((&names[1], 1))));
        engine.parked.taken(&names[2]);
        assert_eq!(engine.parked.view().missing, names[3..]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_queue_that_holds_less_than_was_parked_there_is_told_at_the_second_look() {
    let stage = Stage::new();
    let engine = &stage.engine;
    for tier in [Tier::M3, Tier::M15, Tier::H1] {
        for number in 0..4 {
            engine.parked.parked(&key(number), (1, 1), tier);
        }
        // Just parked: the broker may not have counted them yet.
        engine.compare_depth(tier, Some(0));
        engine.compare_depth(tier, Some(0));
        assert_eq!(engine.parked.view().short, []);
        tokio::time::advance(COUNTED_AFTER + Duration::from_secs(1)).await;
        engine.compare_depth(tier, Some(4));
        engine.compare_depth(tier, Some(1));
        assert_eq!(engine.parked.view().short, []);
        engine.compare_depth(tier, Some(1));
        assert_eq!(engine.parked.view().short, [(tier, 3)]);
        // A broker without counts, one that has the copies after all, and one that has more than were parked.
        for depth in [None, Some(4), Some(9)] {
            engine.compare_depth(tier, depth);
            assert_eq!(engine.parked.view().short, []);
        }
        tokio::time::advance(tier.wait()).await;
        engine.compare_depth(tier, Some(0));
        engine.compare_depth(tier, Some(0));
        assert_eq!(engine.parked.view().short, [], "those that are due have left it");
        (0..4).for_each(|number| engine.parked.taken(&key(number)));
    }
}

#[test]
fn what_an_older_copy_waits_for_is_read_as_it_was_written_and_nothing_else_is() {
    let aside = Aside { run: 3, number: 1 << 40, since: At(1_788_000_000_123) };
    let read = Aside::read(&aside.to_text()).unwrap();
    assert_eq!((read.run, read.number, read.since), (3, 1 << 40, At(1_788_000_000_123)));
    for other in Waiting::ALL.map(Waiting::as_str).into_iter().chain(["replay", "aside", "aside/1/2", "aside/x/2/3"]) {
        assert!(Aside::read(other).is_none(), "{other}");
    }
}
