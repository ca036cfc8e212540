//! The operator's logo: a PNG or SVG image, distinguished by its content. Browsers do not run an image's scripts, and
//! the policy sent with it forbids them when it is opened as a document.

use bytes::Bytes;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const SVG_NAMESPACE: &str = "http://www.w3.org/2000/svg";

#[derive(Clone, Debug)]
pub(crate) struct Logo {
    pub(crate) content: Bytes,
    pub(crate) content_type: &'static str,
}

impl Logo {
    pub(crate) const MAX_SIZE: usize = 256 << 10;

    pub(crate) const CSP: &'static str =
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox";

    pub(crate) fn of(content: Vec<u8>) -> Option<Self> {
        let content_type = if content.starts_with(PNG) && content.get(12..16) == Some(b"IHDR") {
            "image/png"
        } else if std::str::from_utf8(&content).is_ok_and(is_svg) {
            "image/svg+xml"
        } else {
            return None;
        };
        Some(Self { content: content.into(), content_type })
    }
}

/// Whether the root element is `svg`, with the namespace that browsers require.
fn is_svg(text: &str) -> bool {
    let mut rest = text.trim_start_matches('\u{feff}').trim_ascii_start();
    let comments = [("<?", "?>"), ("<!--", "-->"), ("<!DOCTYPE", ">")];
    while let Some((begin, end)) = comments.into_iter().find(|(begin, _)| rest.starts_with(begin)) {
        let Some((skipped, after)) = rest.split_once(end) else { return false };
        // Entities of its own.
        if begin == "<!DOCTYPE" && skipped.contains('[') {
            return false;
        }
        rest = after.trim_ascii_start();
    }
    let tag = rest.strip_prefix("<svg").and_then(|rest| rest.split_once('>'));
    tag.is_some_and(|(tag, _)| tag.starts_with(|c: char| c.is_ascii_whitespace()) && tag.contains(SVG_NAMESPACE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content_type(content: impl Into<Vec<u8>>) -> Option<&'static str> {
        Logo::of(content.into()).map(|logo| logo.content_type)
    }

    #[test]
    fn an_svg_is_known_by_its_root() {
        const ROOT: &str = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'/>";
        const DOCTYPE: &str =
            "<!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \"http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd\">";
        let before = ["", "\u{feff}", "\n", "<?xml version=\"1.0\"?>\n", "<!-- <html> -->", DOCTYPE];
        for before in before {
            assert_eq!(content_type(format!("{before}{ROOT}")), Some("image/svg+xml"), "{before}");
        }
        for other in [
            "",
            "<svg viewBox='0 0 1 1'/>",
            "<svg",
            "<svgs xmlns='http://www.w3.org/2000/svg'/>",
            "<html><svg xmlns='http://www.w3.org/2000/svg'/></html>",
            "<!doctype html><script>alert(1)</script>",
            "<!-- <svg xmlns='http://www.w3.org/2000/svg'/>",
            "<!DOCTYPE svg [<!ENTITY x 'y'>]><svg xmlns='http://www.w3.org/2000/svg'/>",
        ] {
            assert_eq!(content_type(other), None, "{other}");
        }
    }

    #[test]
    fn a_png_is_known_by_its_signature() {
        let png = [PNG, b"\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0"].concat();
        assert_eq!(content_type(png.clone()), Some("image/png"));
        assert_eq!(content_type(&png[..12]), None);
        for other in [&b"GIF89a\x01\0\x01\0"[..], b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBP", b"\x89PNG\n\x1a\n"] {
            assert_eq!(content_type(other), None);
        }
    }
}
