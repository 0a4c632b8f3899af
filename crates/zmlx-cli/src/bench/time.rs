//! Ways to compute the same, timed in turns, so that what else the machine does hits all of them alike.

use super::peer::Peer;
use candle_core::{Device, Tensor};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Something that computes the operation.
pub struct Way<'a> {
    pub name: String,
    pub run: Box<dyn FnMut() -> Result<Tensor> + 'a>,
    /// The peer times itself.
    peer: Option<usize>,
    seconds: Vec<f64>,
}

impl<'a> Way<'a> {
    /// One of this process.
    pub fn new(name: &str, run: impl FnMut() -> Result<Tensor> + 'a) -> Way<'a> {
        Way { name: name.into(), run: Box::new(run), peer: None, seconds: vec![] }
    }

    /// One of the peer.
    pub fn of_peer(name: String, number: usize) -> Way<'a> {
        let run = || -> Result<Tensor> { Err("the peer runs itself".into()) };
        Way { name, run: Box::new(run), peer: Some(number), seconds: vec![] }
    }
}

/// What came of a way, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    pub name: String,
    pub median: f64,
    pub p20: f64,
    pub p80: f64,
}

/// Between one way's turn and the next.
const REST: Duration = Duration::from_millis(20);
/// What a way runs untimed at the start of its turn. Idle threads of the last one spin for a while, and a cache takes several
/// runs to hold what the next one reads: on a Xeon of two cores the second run of a sum of 64 MiB takes 3.6 ms and the sixth
/// 2.2, so that one run would favour those that are fast enough to be timed several times in a row.
const WARM: f64 = 20e-3;
/// What all timed runs of a way may take together: the median of a slow one needs no more than `LEAST` rounds.
const LONG: f64 = 3.0;
const LEAST: usize = 3;

/// What a way does in its turn: runs that are not timed, then some that are; and in how many rounds it has one.
struct Turn {
    warm: usize,
    timed: usize,
    rounds: usize,
}

/// Times all ways in turns; a sample of something fast is many runs.
pub fn time(
    mut ways: Vec<Way<'_>>,
    rounds: usize,
    mut peer: Option<&mut Peer>,
    device: &Device,
) -> Result<Vec<Timing>> {
    let once = |way: &mut Way<'_>, count: usize, peer: &mut Option<&mut Peer>| -> Result<f64> {
        if let Some(k) = way.peer {
            return peer.as_deref_mut().ok_or("the peer is gone")?.time(k, count);
        }
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..count {
            std::hint::black_box((way.run)()?);
        }
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64() / count as f64)
    };
    let mut turns = vec![];
    for way in ways.iter_mut() {
        once(way, 1, &mut peer)?;
        let t = once(way, 1, &mut peer)?;
        // waiting for a GPU takes tens of microseconds
        let sample = if matches!(device, Device::Cpu) { 5e-3 } else { 20e-3 };
        let runs = |seconds: f64| ((seconds / t.max(1e-9)) as usize).min(1000);
        turns.push(Turn {
            warm: runs(WARM),
            timed: runs(sample).max(1),
            rounds: runs(LONG).clamp(LEAST, rounds.max(LEAST)),
        });
    }
    for round in 0..rounds.max(1) {
        for (way, turn) in ways.iter_mut().zip(&turns).filter(|(_, turn)| round < turn.rounds) {
            std::thread::sleep(REST);
            if turn.warm > 0 {
                once(way, turn.warm, &mut peer)?;
            }
            let t = once(way, turn.timed, &mut peer)?;
            way.seconds.push(t);
        }
    }
    Ok(ways.into_iter().map(summary).collect())
}

/// Median, and the 20th and 80th percentile.
fn summary(way: Way<'_>) -> Timing {
    let mut s = way.seconds;
    s.sort_by(f64::total_cmp);
    let at = |q: f64| s[((s.len() - 1) as f64 * q).round() as usize] * 1e3;
    Timing { name: way.name, median: at(0.5), p20: at(0.2), p80: at(0.8) }
}
