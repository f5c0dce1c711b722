//! Logarithm and exponential from the four basic operations. One seed then has the same trace on
//! every machine, while the functions of the platforms differ in their last bit.
//!
//! The polynomials are those of fdlibm (Sun Microsystems, 1993); both are within one unit in the last
//! place.

const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Returns the natural logarithm of a positive, finite, normal number.
pub(crate) fn ln(x: f64) -> f64 {
    // x = m * 2^k with m between sqrt(1/2) and sqrt(2).
    const SQRT_HALF: u64 = 0x3fe6_a09e_0000_0000;
    const ONE: u64 = 0x3ff0_0000_0000_0000;
    let bits = x.to_bits().wrapping_add(ONE - SQRT_HALF);
    let k = (bits >> 52) as i64 - 1023;
    let m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff).wrapping_add(SQRT_HALF));
    let f = m - 1.0;
    let half_square = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w
        * (0.399_999_999_994_094_2 + w * (0.222_221_984_321_497_84 + w * 0.153_138_376_992_093_73));
    let odd = z
        * (0.666_666_666_666_673_5
            + w * (0.285_714_287_436_623_9
                + w * (0.181_835_721_616_180_5 + w * 0.147_981_986_051_165_86)));
    let k = k as f64;
    s * (half_square + even + odd) + k * LN_2_LOW - half_square + f + k * LN_2_HIGH
}

/// Returns e to the power of `x`: 0 or infinity beyond the range of a double.
pub(crate) fn exp(x: f64) -> f64 {
    if x > 709.0 {
        return f64::INFINITY;
    }
    if x < -708.0 {
        return 0.0;
    }
    let k = (x * std::f64::consts::LOG2_E).round();
    let (high, low) = (x - k * LN_2_HIGH, k * LN_2_LOW);
    let r = high - low;
    let rr = r * r;
    let c = r - rr
        * (0.166_666_666_666_666_02
            + rr * (-0.002_777_777_777_701_559_3
                + rr * (6.613_756_321_437_934e-5
                    + rr * (-1.653_390_220_546_525_2e-6 + rr * 4.138_136_797_057_238_5e-8))));
    let y = 1.0 + (r * c / (2.0 - c) - low + high);
    y * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_agree_with_those_of_the_platform() {
        let mut x = 1e-300;
        while x < 1e300 {
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1e-3), "ln {x}");
            x *= 1.37;
        }
        let mut x = -700.0;
        while x < 700.0 {
            assert!((exp(x) / x.exp() - 1.0).abs() < 5e-16, "exp {x}");
            x += 0.77;
        }
        assert_eq!((ln(1.0), exp(0.0)), (0.0, 1.0));
    }

    #[test]
    fn their_bits_are_the_same_everywhere() {
        assert_eq!(ln(0.3).to_bits(), 0xbff3_4378_fcbd_a721);
        assert_eq!(exp(1.7).to_bits(), 0x4015_e552_770d_f8a6);
    }
}
