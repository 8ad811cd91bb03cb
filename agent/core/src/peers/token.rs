//! What an answer must carry: a token that only who has seen the request knows (PEER-11).
//!
//! It is SipHash-2-4 (Aumasson and Bernstein, 2012) of the place and the sequence number, under a key
//! that is made anew at each start. So nothing need be remembered of a request to know its token, and
//! a peer that sees its own tokens learns nothing of another's.

/// The key.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    key: [u64; 2],
}

impl Tokens {
    /// Tokens of this seed, which nobody outside may be able to guess.
    pub const fn new(seed: u64) -> Tokens {
        // The other half of the key tells these tokens from other uses of one seed.
        Tokens { key: [seed, u64::from_le_bytes(*b"heartbea")] }
    }

    /// The token of a request.
    pub const fn token(&self, place: u32, sequence: u32) -> u32 {
        let message = ((sequence as u64) << 32) | place as u64;
        let hash = siphash_2_4(self.key, message);
        (hash ^ (hash >> 32)) as u32
    }
}

/// SipHash-2-4 of one message of eight octets.
const fn siphash_2_4(key: [u64; 2], message: u64) -> u64 {
    /// The last block of a message has its length in the highest octet.
    const LENGTH: u64 = 8 << 56;
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    state[3] ^= message;
    state = round(round(state));
    state[0] ^= message;
    state[3] ^= LENGTH;
    state = round(round(state));
    state[0] ^= LENGTH;
    state[2] ^= 0xff;
    state = round(round(round(round(state))));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_siphash() {
        // The ninth vector of the reference implementation: octets 0 to 7 under the key 0 to 15.
        let octets = |from: u8| u64::from_le_bytes(std::array::from_fn(|at| from + at as u8));
        assert_eq!(siphash_2_4([octets(0), octets(8)], octets(0)), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn tokens_differ_by_seed_place_and_sequence_peer_11() {
        let token = Tokens::new(1).token(2, 3);
        assert_ne!(token, Tokens::new(2).token(2, 3));
        assert_ne!(token, Tokens::new(1).token(3, 3));
        assert_ne!(token, Tokens::new(1).token(2, 4));
    }
}
