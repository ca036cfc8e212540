//! The keys of `pages`: how they look, and where a sign-out may lead.

use url::Url;

use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
use crate::pages::{Branding, Colour, Logo, Support};
use crate::router::SignOutTo;

const MAX_NAME: usize = 60;

pub(super) fn branding(reader: &mut Reader) -> Branding {
    let name = reader.parsed("pages.name", name);
    let logo = logo(reader);
    let support = reader.parsed("pages.support", support);
    let accent = reader.parsed("pages.accent", accent);
    Branding::new(name, logo, support, accent)
}

pub(super) fn sign_out_to(reader: &mut Reader) -> SignOutTo {
    SignOutTo::new(reader.parsed_list("pages.sign_out_to", destination).unwrap_or_default())
}

fn name(text: &str) -> Result<String, ValueError> {
    if text.chars().any(char::is_control) || text.chars().count() > MAX_NAME {
        let why = format!("has a line break, or is longer than {MAX_NAME} characters");
        return Err(ValueError::new(why, "write the app's name in one short line"));
    }
    Ok(text.to_owned())
}

fn logo(reader: &mut Reader) -> Option<Logo> {
    const KEY: &str = "pages.logo_file";
    let path = reader.path(KEY)?;
    let content = reader.file(KEY, &path, Logo::MAX_SIZE)?;
    let logo = Logo::of(content);
    if logo.is_none() {
        let why = format!("{} is neither a PNG nor an SVG image, whatever its name", path.display());
        let remedy = "name a PNG file, or an SVG file whose root is <svg xmlns=\"http://www.w3.org/2000/svg\" …>";
        reader.problem(KEY, why, remedy);
    }
    logo
}

fn support(text: &str) -> Result<Support, ValueError> {
    let remedy = "write an https:// address, or a mail address such as help@example.com";
    if text.starts_with("https://") {
        let url = parse::web_url(text).map_err(|error| ValueError::new(error.why, remedy))?;
        let text = url.as_str().trim_start_matches("https://").trim_end_matches('/').to_owned();
        return Ok(Support { href: url.into(), text });
    }
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    match address.split_once('@') {
        Some((user, host)) if [user, host].iter().all(|part| !part.is_empty() && part.bytes().all(plain)) => {
            Ok(Support { href: format!("mailto:{address}"), text: address.to_owned() })
        }
        Some(_) | None => Err(ValueError::new("is neither an https address nor a mail address", remedy)),
    }
}

fn accent(text: &str) -> Result<Colour, ValueError> {
    Colour::parse(text).ok_or_else(|| ValueError::new("is not a hex colour", "write it as #1b6b4d"))
}

/// An address of another site, with one reading.
fn destination(text: &str) -> Result<Url, ValueError> {
    let url = parse::web_url(text).and_then(parse::confidential)?;
    if url.query().is_some() {
        return Err(ValueError::new("has a query", "remove the ? and what follows; any query is allowed"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    if !url.host_str().unwrap_or_default().bytes().all(plain) {
        return Err(ValueError::new("has no plain host name", "write an address such as https://www.example.com/bye"));
    }
    super::app::unambiguous_path(url.path()).map(|_| url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn support_is_an_address_or_a_mailbox() {
        let read = |text| support(text).map(|support| (support.href, support.text)).ok();
        let pair = |href: &str, text: &str| Some((href.to_owned(), text.to_owned()));
        assert_eq!(read("https://help.example.com/"), pair("https://help.example.com/", "help.example.com"));
        assert_eq!(read("help@example.com"), pair("mailto:help@example.com", "help@example.com"));
        assert_eq!(read("mailto:help@example.com"), read("help@example.com"));
        for text in [
            "http://help.example.com",
            "javascript:alert(1)",
            "mailto:",
            "help",
            "a@b@c",
            "a@b?subject=x",
            "tel:1",
            "https://me:pw@help.example.com",
            "data:x@y",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
