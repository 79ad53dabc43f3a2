//! Decimal arithmetic that is exact or says that it overflowed, in 128 bits and, where these don't suffice, in 256.

use arrow::array::{AsArray, Decimal128Array, Decimal256Array};
use arrow::datatypes::{DataType, i256};
use datafusion::common::Result;

use super::arguments::Argument;

/// A signed integer with checked arithmetic: the unscaled value of a decimal.
pub(super) trait Exact: Copy + Ord {
    /// The value itself.
    fn of(value: i8) -> Self;
    /// `self + other`, none on overflow.
    fn plus(self, other: Self) -> Option<Self>;
    /// `self - other`, none on overflow.
    fn minus(self, other: Self) -> Option<Self>;
    /// `self × other`, none on overflow.
    fn times(self, other: Self) -> Option<Self>;
    /// Quotient towards zero and remainder with the sign of `self`; none if `other` is zero.
    fn divide(self, other: Self) -> Option<(Self, Self)>;
    /// Ten to the power of `exponent`, none on overflow.
    fn power_of_ten(exponent: u32) -> Option<Self>;
    /// As 128 bits, none if it needs more.
    fn narrow(self) -> Option<i128>;

    /// The absolute value, none on overflow.
    fn magnitude(self) -> Option<Self> {
        if self < Self::of(0) { Self::of(0).minus(self) } else { Some(self) }
    }

    /// The quotient by a positive divisor, rounded half away from zero; none on overflow.
    fn divide_half_up(self, divisor: Self) -> Option<Self> {
        let (quotient, rest) = self.divide(divisor)?;
        let rest = rest.magnitude()?;
        // `2 × rest >= divisor`, without the product.
        if rest < divisor.minus(rest)? {
            return Some(quotient);
        }
        if self < Self::of(0) { quotient.minus(Self::of(1)) } else { quotient.plus(Self::of(1)) }
    }
}

impl Exact for i128 {
    fn of(value: i8) -> Self {
        Self::from(value)
    }

    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }

    fn minus(self, other: Self) -> Option<Self> {
        self.checked_sub(other)
    }

    fn times(self, other: Self) -> Option<Self> {
        self.checked_mul(other)
    }

    fn divide(self, other: Self) -> Option<(Self, Self)> {
        Some((self.checked_div(other)?, self.checked_rem(other)?))
    }

    fn power_of_ten(exponent: u32) -> Option<Self> {
        10i128.checked_pow(exponent)
    }

    fn narrow(self) -> Option<i128> {
        Some(self)
    }
}

impl Exact for i256 {
    fn of(value: i8) -> Self {
        Self::from_i128(i128::from(value))
    }

    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }

    fn minus(self, other: Self) -> Option<Self> {
        self.checked_sub(other)
    }

    fn times(self, other: Self) -> Option<Self> {
        self.checked_mul(other)
    }

    fn divide(self, other: Self) -> Option<(Self, Self)> {
        Some((self.checked_div(other)?, self.checked_rem(other)?))
    }

    fn power_of_ten(exponent: u32) -> Option<Self> {
        Self::from_i128(10).checked_pow(exponent)
    }

    fn narrow(self) -> Option<i128> {
        self.to_i128()
    }
}

/// A decimal: `value` divided by ten to the power of `scale`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scaled<T> {
    /// The unscaled value.
    pub(super) value: T,
    /// Digits behind the point.
    pub(super) scale: u32,
}

impl<T: Exact> Scaled<T> {
    /// The unscaled value at a scale that is at least this one's; none on overflow.
    pub(super) fn at(self, scale: u32) -> Option<T> {
        match scale.saturating_sub(self.scale) {
            0 => Some(self.value),
            more => self.value.times(T::power_of_ten(more)?),
        }
    }

    /// The product, at the sum of the scales; none on overflow.
    pub(super) fn times(self, other: Self) -> Option<Self> {
        Some(Self { value: self.value.times(other.value)?, scale: self.scale + other.scale })
    }

    /// Whether this, which is positive, is at most `limit`. Always exact: if a side overflows when both are brought to
    /// one scale, it is the greater one.
    pub(super) fn positive_at_most(self, limit: Self) -> bool {
        if limit.value <= T::of(0) {
            return false;
        }
        let scale = self.scale.max(limit.scale);
        match (self.at(scale), limit.at(scale)) {
            (Some(value), Some(limit)) => value <= limit,
            (value, _) => value.is_some(),
        }
    }
}

/// A column of decimals.
pub(super) enum Decimals<'a> {
    /// At most 38 digits.
    Narrow(&'a Decimal128Array),
    /// At most 76 digits.
    Wide(&'a Decimal256Array),
}

/// One argument as decimals of one scale.
pub(super) struct DecimalArgument<'a> {
    argument: &'a Argument,
    /// The values.
    pub(super) values: Decimals<'a>,
    /// Digits behind the point.
    pub(super) scale: u32,
}

impl<'a> DecimalArgument<'a> {
    /// Reads an argument that was coerced to a decimal type.
    pub(super) fn new(argument: &'a Argument) -> Result<Self> {
        let array = argument.array();
        let (values, scale) = match array.data_type() {
            DataType::Decimal128(_, scale) => (Decimals::Narrow(array.as_primitive()), *scale),
            DataType::Decimal256(_, scale) => (Decimals::Wide(array.as_primitive()), *scale),
            _ => return Err(argument.uncoerced()),
        };
        let scale = u32::try_from(scale).map_err(|_| argument.uncoerced())?;
        Ok(Self { argument, values, scale })
    }

    /// Whether the value of `row` is null.
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.argument.is_null(row)
    }

    /// The value of `row` if it is not null and its column holds at most 38 digits.
    pub(super) fn narrow(&self, row: usize) -> Option<Scaled<i128>> {
        match &self.values {
            Decimals::Narrow(values) if !self.is_null(row) => {
                Some(Scaled { value: values.value(self.argument.index(row)), scale: self.scale })
            }
            _ => None,
        }
    }

    /// The value of `row` if it is not null.
    pub(super) fn wide(&self, row: usize) -> Option<Scaled<i256>> {
        if self.is_null(row) {
            return None;
        }
        let index = self.argument.index(row);
        let value = match &self.values {
            Decimals::Narrow(values) => i256::from_i128(values.value(index)),
            Decimals::Wide(values) => values.value(index),
        };
        Some(Scaled { value, scale: self.scale })
    }

    /// Whether the column holds at most 38 digits.
    pub(super) fn is_narrow(&self) -> bool {
        matches!(self.values, Decimals::Narrow(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(value: i128, scale: u32) -> Scaled<i128> {
        Scaled { value, scale }
    }

    #[test]
    fn comparison_across_scales_is_exact_even_where_alignment_overflows() {
        let cases = [
            (scaled(5, 0), scaled(50, 1), true),
            (scaled(5, 0), scaled(49, 1), false),
            (scaled(1, 38), scaled(i128::MAX, 0), true),
            (scaled(i128::MAX, 0), scaled(1, 38), false),
            (scaled(1, 0), scaled(0, 0), false),
            (scaled(1, 0), scaled(-1, 0), false),
        ];
        for (value, limit, expected) in cases {
            assert_eq!(value.positive_at_most(limit), expected, "{value:?} <= {limit:?}");
        }
    }

    #[test]
    fn powers_of_ten_end_where_the_integer_does() {
        assert_eq!(i128::power_of_ten(38), Some(10i128.pow(38)));
        assert_eq!(i128::power_of_ten(39), None);
        assert!(i256::power_of_ten(76).is_some());
        assert_eq!(i256::power_of_ten(77), None);
    }
}
