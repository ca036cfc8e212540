//! The stylesheet, and the shades of an operator's accent that are readable on its backgrounds.

use super::colour::Colour;

pub(super) const STYLESHEET: &str = include_str!("style.css");

/// The contrast that text needs with its background (WCAG 2.2, 1.4.3).
const READABLE: f64 = 4.5;
/// Percentage of the accent in the background of a highlighted card.
const TINT: u16 = 6;
/// Starts the dark-mode part of the stylesheet.
const DARK: &str = "@media (prefers-color-scheme: dark)";

/// The rules that replace the stylesheet's accent with the nearest readable shades of this one.
pub(super) fn rules(accent: Colour) -> String {
    let (light, dark) = STYLESHEET.split_once(DARK).unwrap_or((STYLESHEET, ""));
    let rule = |scheme, toward| {
        let (accent, fresh) = shades(accent, scheme, toward);
        format!(":root {{ --accent: {accent}; --fresh: {fresh}; }}")
    };
    format!("\n{}\n{DARK} {{ {} }}\n", rule(light, Colour::BLACK), rule(dark, Colour::WHITE))
}

/// The accent for a colour scheme, and the background of a highlighted card.
fn shades(accent: Colour, scheme: &str, toward: Colour) -> (Colour, Colour) {
    let [ground, card, well] = ["ground", "card", "well"].map(|name| declared(scheme, name).unwrap_or(toward));
    let shade = |percent| {
        let shade = accent.mixed(toward, percent);
        (shade, card.mixed(shade, TINT))
    };
    let is_readable = |(shade, fresh): &(Colour, Colour)| {
        [ground, card, well, *fresh].into_iter().all(|ground| shade.contrast(ground) >= READABLE)
    };
    (0..100).map(shade).find(is_readable).unwrap_or_else(|| shade(100))
}

/// The first colour that the stylesheet gives this name in a scheme.
fn declared(scheme: &str, name: &str) -> Option<Colour> {
    let (_, rest) = scheme.split_once(&format!("--{name}: "))?;
    Colour::parse(rest.split(';').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accent_can_be_read_in_light_and_in_dark() {
        let (light, dark) = STYLESHEET.split_once(DARK).unwrap();
        for number in 0..4096 {
            let accent = Colour::parse(&format!("#{number:03x}")).unwrap();
            for (scheme, toward) in [(light, Colour::BLACK), (dark, Colour::WHITE)] {
                let name = |name| declared(scheme, name).unwrap();
                let (shade, fresh) = shades(accent, scheme, toward);
                for ground in [name("ground"), name("card"), name("well"), fresh, name("on-accent")] {
                    assert!(shade.contrast(ground) >= READABLE, "{accent}: {shade} on {ground}");
                }
                for text in ["ink", "soft", "bad"] {
                    assert!(name(text).contrast(fresh) >= READABLE, "{accent}: {text} on {fresh}");
                }
                assert!(name("edge").contrast(fresh) >= 3.0, "{accent}: edge on {fresh}");
            }
        }
    }

    #[test]
    fn an_accent_that_can_be_read_stays_as_it_is() {
        let rules = rules(Colour::parse("#1b6b4d").unwrap());
        assert!(rules.starts_with("\n:root { --accent: #1b6b4d;"), "{rules}");
        assert!(!rules.split_once(DARK).unwrap().1.contains("#1b6b4d"), "{rules}");
    }
}
