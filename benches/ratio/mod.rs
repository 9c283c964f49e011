//! Two calls timed in turns, so that both run under the same conditions.

use std::time::{Duration, Instant};

/// The number of turns; there are fewer if a call takes long.
const TIMES: usize = 15;
const ENOUGH: Duration = Duration::from_secs(4);

fn timed(call: &mut dyn FnMut()) -> Duration {
    let begin = Instant::now();
    call();
    begin.elapsed()
}

/// Prints the ratio of the least times of `ours` and `rival`, and its upper limit.
pub fn show(what: &str, at_most: f64, rival: &mut dyn FnMut(), ours: &mut dyn FnMut()) {
    let begin = Instant::now();
    let mut least = [Duration::MAX; 2];
    for _ in 0..TIMES {
        least = [least[0].min(timed(rival)), least[1].min(timed(ours))];
        if begin.elapsed() > ENOUGH {
            break;
        }
    }
    let [theirs, ours] = least.map(|time| time.as_secs_f64());
    println!("{what}: {:.2} times, should be at most {at_most} ({:.2} ms)", ours / theirs, ours * 1e3);
}
