use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Every jump, with every other clock: the time a moment later, after a day, and after the clock is right.
#[test]
fn a_jump_counts_only_after_another_clock_confirms_it_or_a_day_without_contradiction() {
    let start = Instant::now();
    let after = |seconds: i64| start + Duration::from_secs(u64::try_from(seconds).unwrap());
    let mut count = 0;
    let sizes = [601, HOUR, 14 * DAY, 400 * DAY, 60 * 365 * DAY];
    for by in sizes.into_iter().chain(sizes.map(|by| -by)) {
        for witness in [None, Some(0), Some(by), Some(-2 * by)] {
            let mut state = State::default();
            assert_eq!(state.read(at(0), after(0)), at(0));
            assert_eq!(state.read(at(60), after(60)), at(60));
            assert_eq!(state.read(at(61 + by), after(61)), at(61), "{by}");
            let confirmed = witness == Some(by);
            if let Some(off) = witness {
                state.witness(at(62 + off), at(62 + by), after(62));
            }
            let expected = if confirmed { at(63 + by) } else { at(63) };
            assert_eq!(state.read(at(63 + by), after(63)), expected, "{by} {witness:?}");
            assert_eq!(state.jump.is_none(), confirmed);
            // A day and more later: a contradicted jump never counts.
            let believed = confirmed || witness.is_none();
            let expected = if believed { at(DAY + 100 + by) } else { at(DAY + 100) };
            assert_eq!(state.read(at(DAY + 100 + by), after(DAY + 100)), expected, "{by} {witness:?}");
            // The clock is right again.
            let right = state.read(at(DAY + 200), after(DAY + 200));
            let expected = if believed { at(DAY + 200 + by) } else { at(DAY + 200) };
            assert_eq!(right, expected, "{by} {witness:?}");
            count += 1;
        }
    }
    println!("{count} jumps");
}

#[test]
fn a_time_servers_corrections_count_without_a_confirmation() {
    let start = Instant::now();
    let mut state = State::default();
    let mut off = 0;
    for step in 0..200_i64 {
        off += [5, -7, 300, -290, 0][usize::try_from(step % 5).unwrap()];
        let now = start + Duration::from_secs(u64::try_from(step * 60).unwrap());
        assert_eq!(state.read(at(step * 60 + off), now), at(step * 60 + off));
        // A wrong clock of another machine does not matter while ours is steady.
        state.witness(at(step * 60 - DAY), at(step * 60 + off), now);
        assert!(state.jump.is_none());
    }
}

#[test]
fn a_start_long_after_the_last_written_time_is_a_jump_and_a_start_after_a_short_stop_is_not() {
    let now = Timestamp::now();
    for (stopped, is_jump) in [(0, false), (DAY, false), (6 * DAY, false), (8 * DAY, true), (900 * DAY, true)] {
        let steady = Steady::default();
        let last = now - SignedDuration::from_secs(stopped);
        steady.resume(last);
        assert_eq!(steady.jump().is_some(), is_jump, "{stopped}");
        let read = steady.now();
        assert!(read.duration_since(if is_jump { last } else { now }).abs() < TOLERANCE, "{stopped}");
        steady.witness(Timestamp::now());
        assert!(steady.jump().is_none(), "{stopped}");
        assert!(steady.now().duration_since(now).abs() < TOLERANCE, "{stopped}");
    }
}
