//! A CSS colour, and the contrast between two (WCAG 2.2, 1.4.3).

use std::fmt;

/// `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Colour([u8; 3]);

impl Colour {
    pub(super) const BLACK: Self = Self([0; 3]);
    pub(super) const WHITE: Self = Self([255; 3]);

    /// `#rgb` or `#rrggbb`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#')?;
        let digits = match digits.len() {
            3 => digits.chars().flat_map(|digit| [digit, digit]).collect(),
            _ => digits.to_owned(),
        };
        let number = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 6 && !digits.starts_with('+'))?;
        let [_, rgb @ ..] = number.to_be_bytes();
        Some(Self(rgb))
    }

    fn luminance(self) -> f64 {
        let [r, g, b] = self.0.map(|channel| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    pub(super) fn contrast(self, other: Self) -> f64 {
        let (one, other) = (self.luminance(), other.luminance());
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// Mixed with this percentage of `other`.
    pub(super) fn mixed(self, other: Self, percent: u16) -> Self {
        let channel = |at: usize| {
            let [one, other] = [self, other].map(|colour| colour.0.get(at).copied().map_or(0, u16::from));
            u8::try_from((one * (100 - percent) + other * percent) / 100).unwrap_or(u8::MAX)
        };
        Self([0, 1, 2].map(channel))
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_is_three_or_six_hexadecimal_digits() {
        assert_eq!(Colour::parse("#1B6b4d").unwrap().to_string(), "#1b6b4d");
        assert_eq!(Colour::parse("#f0a").unwrap().to_string(), "#ff00aa");
        for text in ["", "#", "1b6b4d", "#1b6b4", "#1b6b4d00", "#1b6b4g", "red", "rgb(1,2,3)", "#ééé", "# 1b6b4"] {
            assert_eq!(Colour::parse(text), None, "{text}");
        }
    }

    #[test]
    fn contrast_is_that_of_the_standard() {
        let contrast = |one, other| Colour::parse(one).unwrap().contrast(Colour::parse(other).unwrap());
        assert!((contrast("#000", "#fff") - 21.0).abs() < 0.001);
        // From WebAIM's contrast checker.
        assert!((contrast("#767676", "#ffffff") - 4.54).abs() < 0.01);
    }
}
