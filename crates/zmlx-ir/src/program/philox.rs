//! Philox4x32-7: random numbers as a function of a counter and a key (Salmon et al., "Parallel random numbers: as easy
//! as 1, 2, 3", SC 2011). The same on every target.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 7;

/// One block: 128 random bits of a counter and a key.
#[inline(always)]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter =
            [(p1 >> 32) as u32 ^ counter[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ counter[3] ^ key[1], p0 as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// `N` blocks of counters that follow one another from `first` on, word by word: as `philox` of each, in vectors.
#[inline(always)]
pub fn philox_blocks<const N: usize>(first: u64, mut key: [u32; 2]) -> [[u32; N]; 4] {
    let counter = |i: usize| first.wrapping_add(i as u64);
    let mut c = [
        std::array::from_fn(|i| counter(i) as u32),
        std::array::from_fn(|i| (counter(i) >> 32) as u32),
        [0; N],
        [0; N],
    ];
    for _ in 0..ROUNDS {
        let mut next = [[0; N]; 4];
        for i in 0..N {
            let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c[0][i]);
            let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c[2][i]);
            next[0][i] = (p1 >> 32) as u32 ^ c[1][i] ^ key[0];
            next[1][i] = p1 as u32;
            next[2][i] = (p0 >> 32) as u32 ^ c[3][i] ^ key[1];
            next[3][i] = p0 as u32;
        }
        c = next;
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    c
}

/// The number in [0, 1) of a word.
#[inline(always)]
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * 2f32.powi(-24)
}

/// The number in [0, 1) of element `index` under `seed`: word `index % 4` of block `index / 4`, its upper 24 bits.
pub fn rand_unit(seed: i64, index: u64) -> f32 {
    let block = index / 4;
    let words = philox([block as u32, (block >> 32) as u32, 0, 0], [seed as u32, (seed >> 32) as u32]);
    unit(words[(index % 4) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random123's known answers are for 10 rounds: the same rounds, three more of them.
    fn philox10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
        let seven = philox(counter, key);
        let bump = |k: u32, w: u32| (0..ROUNDS).fold(k, |k, _| k.wrapping_add(w));
        let mut c = seven;
        let mut k = [bump(key[0], WEYL[0]), bump(key[1], WEYL[1])];
        for _ in 0..3 {
            let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
            let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
            c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
            k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
        }
        c
    }

    #[test]
    fn ten_rounds_give_the_published_answers() {
        assert_eq!(philox10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = u32::MAX;
        assert_eq!(philox10([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn blocks_in_vectors_are_those_one_by_one() {
        for first in [0, 77, (1 << 32) - 3] {
            let words = philox_blocks::<8>(first, [5, 9]);
            for (i, at) in (first..first + 8).enumerate() {
                let block = philox([at as u32, (at >> 32) as u32, 0, 0], [5, 9]);
                assert_eq!(words.map(|word| word[i]), block, "block {at}");
            }
        }
    }

    #[test]
    fn numbers_are_uniform_and_uncorrelated() {
        let n = 20_000;
        let x: Vec<f64> = (0..n).map(|i| f64::from(rand_unit(42, i))).collect();
        let mean = x.iter().sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 4.0 * (1.0 / 12.0 / n as f64).sqrt(), "{mean}");
        for lag in [1, 2, 3, 4, 10, 100] {
            let c: f64 = (0..x.len() - lag).map(|i| (x[i] - 0.5) * (x[i + lag] - 0.5)).sum::<f64>() * 12.0 / n as f64;
            assert!(c.abs() < 4.0 / (n as f64).sqrt(), "lag {lag}: {c}");
        }
    }
}
