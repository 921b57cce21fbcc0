//! CityHash64 as ClickHouse's `cityHash64(String)` computes it (version 1.0.2, little endian). The tap's slices are ranges of
//! this hash, so the fake has to agree with ClickHouse bit for bit; `vectors/cityhash.tsv` was taken from ClickHouse.

const K0: u64 = 0xc3a5_c85c_97cb_3127;
const K1: u64 = 0xb492_b66f_be98_f273;
const K2: u64 = 0x9ae1_6a3b_2f90_404f;
const K3: u64 = 0xc949_d7c7_509e_6557;

/// The hash of `bytes`.
pub(crate) fn cityhash64(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0..=16 => up_to_16(bytes),
        17..=32 => up_to_32(bytes),
        33..=64 => up_to_64(bytes),
        _ => longer(bytes),
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()))
}

fn shift_mix(value: u64) -> u64 {
    value ^ (value >> 47)
}

fn pair(u: u64, v: u64) -> u64 {
    const MUL: u64 = 0x9ddf_ea08_eb38_2d69;
    let a = shift_mix((u ^ v).wrapping_mul(MUL));
    shift_mix((v ^ a).wrapping_mul(MUL)).wrapping_mul(MUL)
}

fn up_to_16(s: &[u8]) -> u64 {
    let len = s.len();
    if len > 8 {
        let (a, b) = (word(s, 0), word(s, len - 8));
        pair(a, b.wrapping_add(len as u64).rotate_right(len as u32)) ^ b
    } else if len >= 4 {
        pair((len as u64).wrapping_add(half(s, 0) << 3), half(s, len - 4))
    } else if len > 0 {
        let y = u64::from(s[0]) + (u64::from(s[len >> 1]) << 8);
        let z = len as u64 + (u64::from(s[len - 1]) << 2);
        shift_mix(y.wrapping_mul(K2) ^ z.wrapping_mul(K3)).wrapping_mul(K2)
    } else {
        K2
    }
}

fn up_to_32(s: &[u8]) -> u64 {
    let len = s.len();
    let a = word(s, 0).wrapping_mul(K1);
    let b = word(s, 8);
    let c = word(s, len - 8).wrapping_mul(K2);
    let d = word(s, len - 16).wrapping_mul(K0);
    pair(
        a.wrapping_sub(b).rotate_right(43).wrapping_add(c.rotate_right(30)).wrapping_add(d),
        a.wrapping_add((b ^ K3).rotate_right(20)).wrapping_sub(c).wrapping_add(len as u64),
    )
}

fn up_to_64(s: &[u8]) -> u64 {
    let len = s.len();
    let round = |first: u64, at: usize, last: u64| {
        let mut a = first;
        let b = a.wrapping_add(last).rotate_right(52);
        let mut c = a.rotate_right(37);
        a = a.wrapping_add(word(s, at + 8));
        c = c.wrapping_add(a.rotate_right(7));
        a = a.wrapping_add(word(s, at + 16));
        (a.wrapping_add(last), b.wrapping_add(a.rotate_right(31)).wrapping_add(c))
    };
    let first = word(s, 0).wrapping_add((len as u64).wrapping_add(word(s, len - 16)).wrapping_mul(K0));
    let (vf, vs) = round(first, 0, word(s, 24));
    let (wf, ws) = round(word(s, 16).wrapping_add(word(s, len - 32)), len - 32, word(s, len - 8));
    let r = shift_mix(vf.wrapping_add(ws).wrapping_mul(K2).wrapping_add(wf.wrapping_add(vs).wrapping_mul(K0)));
    shift_mix(r.wrapping_mul(K0).wrapping_add(vs)).wrapping_mul(K2)
}

fn weak_32(s: &[u8], at: usize, a: u64, b: u64) -> (u64, u64) {
    let (w, x, y, z) = (word(s, at), word(s, at + 8), word(s, at + 16), word(s, at + 24));
    let mut a = a.wrapping_add(w);
    let mut b = b.wrapping_add(a).wrapping_add(z).rotate_right(21);
    let c = a;
    a = a.wrapping_add(x).wrapping_add(y);
    b = b.wrapping_add(a.rotate_right(44));
    (a.wrapping_add(z), b.wrapping_add(c))
}

fn longer(s: &[u8]) -> u64 {
    let len = s.len();
    let mut x = word(s, 0);
    let mut y = word(s, len - 16) ^ K1;
    let mut z = word(s, len - 56) ^ K0;
    let mut v = weak_32(s, len - 64, len as u64, y);
    let mut w = weak_32(s, len - 32, (len as u64).wrapping_mul(K1), K0);
    z = z.wrapping_add(shift_mix(v.1).wrapping_mul(K1));
    x = z.wrapping_add(x).rotate_right(39).wrapping_mul(K1);
    y = y.rotate_right(33).wrapping_mul(K1);
    for at in (0..(len - 1) & !63).step_by(64) {
        x = x.wrapping_add(y).wrapping_add(v.0).wrapping_add(word(s, at + 16)).rotate_right(37).wrapping_mul(K1);
        y = y.wrapping_add(v.1).wrapping_add(word(s, at + 48)).rotate_right(42).wrapping_mul(K1);
        x ^= w.1;
        y ^= v.0;
        z = (z ^ w.0).rotate_right(33);
        v = weak_32(s, at, v.1.wrapping_mul(K1), x.wrapping_add(w.0));
        w = weak_32(s, at + 32, z.wrapping_add(w.1), y);
        std::mem::swap(&mut z, &mut x);
    }
    pair(pair(v.0, w.0).wrapping_add(shift_mix(y).wrapping_mul(K1)).wrapping_add(z), pair(v.1, w.1).wrapping_add(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_clickhouse_on_every_length_up_to_200() {
        let mut lengths = std::collections::BTreeSet::new();
        for line in include_str!("../vectors/cityhash.tsv").lines() {
            let (hash, text) = line.split_once('\t').unwrap();
            assert_eq!(cityhash64(text.as_bytes()).to_string(), hash, "{text}");
            lengths.insert(text.len());
        }
        assert!((0..=200).all(|length| lengths.contains(&length)), "{lengths:?}");
    }
}
