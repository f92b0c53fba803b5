//! Shares of a whole: which of several things comes next.
//!
//! Owns: that each full cycle has exactly its shares, in a fixed order ([`spread`]) or in one drawn anew each time ([`Mix`]), and the
//! generator of numbers that draws ([`Random`]). Pure. Refuses: shares of nothing.

/// One cycle, each as evenly spread as its share allows. Empty when all shares are zero.
#[must_use]
pub fn spread<T: Copy>(shares: &[(T, u16)]) -> Vec<T> {
    let sum: i64 = shares.iter().map(|&(_, share)| i64::from(share)).sum();
    let mut credit = vec![0i64; shares.len()];
    let mut cycle = Vec::new();
    for _ in 0..sum {
        for (credit, &(_, share)) in credit.iter_mut().zip(shares) {
            *credit += i64::from(share);
        }
        // The first of the largest: `max_by_key` would take the last.
        let next = (0..credit.len()).rev().max_by_key(|&index| credit[index]).unwrap_or_default();
        credit[next] -= sum;
        cycle.push(shares[next].0);
    }
    cycle
}

/// Draws without putting back until the cycle is through: the shares are exact, and two mixes do not go in step.
#[derive(Clone, Debug)]
pub struct Mix<T> {
    cycle: Vec<T>,
    next: usize,
    random: Random,
}

impl<T: Copy> Mix<T> {
    /// `None` when all shares are zero.
    #[must_use]
    pub fn new(shares: &[(T, u16)], random: Random) -> Option<Self> {
        let divisor = shares.iter().fold(0, |divisor, &(_, share)| common_divisor(divisor, share));
        let reduced: Vec<_> =
            shares.iter().map(|&(what, share)| (what, share.checked_div(divisor).unwrap_or(0))).collect();
        let cycle = spread(&reduced);
        (!cycle.is_empty()).then_some(Self { cycle, next: 0, random })
    }

    pub fn draw(&mut self) -> T {
        if self.next == 0 {
            self.random.shuffle(&mut self.cycle);
        }
        let drawn = self.cycle[self.next];
        self.next = (self.next + 1) % self.cycle.len();
        drawn
    }
}

const fn common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One for a part of the work, by its number.
    #[must_use]
    pub const fn part(&self, number: u64) -> Self {
        let mut part = Self(self.0 ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        Self(part.next())
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Above 0, at most 1.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            // The bias of a remainder is below 2^-47 for cycles of at most 65536.
            all.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_even_and_keeps_its_shares() {
        assert_eq!(spread(&[('r', 1), ('a', 2), ('u', 1)]), ['a', 'r', 'u', 'a']);
        assert_eq!(spread(&[('r', 0)]), []);
    }

    #[test]
    fn each_cycle_of_a_mix_has_its_shares_in_an_order_of_its_own() {
        let mut mix = Mix::new(&[(0, 30), (1, 60), (2, 10)], Random::new(1)).unwrap();
        let cycles: Vec<Vec<usize>> = (0..50).map(|_| (0..10).map(|_| mix.draw()).collect()).collect();
        for cycle in &cycles {
            let count = |what| cycle.iter().filter(|&&drawn| drawn == what).count();
            assert_eq!([count(0), count(1), count(2)], [3, 6, 1]);
        }
        assert!(cycles.iter().any(|cycle| cycle != &cycles[0]));
        assert!(Mix::new(&[(0, 0)], Random::new(1)).is_none());
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_parts_give_others() {
        let draw = |mut random: Random| [random.next(), random.next()];
        let seed = Random::new(7);
        assert_eq!(draw(seed.clone()), draw(seed.clone()));
        assert_ne!(draw(seed.part(0)), draw(seed.part(1)));
        // The reference implementation's first number of seed 0.
        assert_eq!(Random::new(0).next(), 0xe220_a839_7b1d_cdaf);
        let mut random = Random::new(3);
        assert!((0..1000).map(|_| random.unit()).all(|unit| unit > 0.0 && unit <= 1.0));
    }
}
