//! A short message without links, at an address whose query contained a code. It loads nothing else, because the server
//! that shows it may stop right after.

use minijinja::context;

use super::layout::{Frame, Layout, Page, REMOVE_QUERY};

#[derive(Clone, Copy, Debug)]
pub struct NoticeView<'a> {
    pub frame: Frame<'a>,
    /// One short line, no full stop.
    pub title: &'a str,
    pub text: &'a str,
}

pub fn notice(view: &NoticeView<'_>) -> Page {
    let layout = Layout { script: Some(REMOVE_QUERY), inline_style: true, ..Layout::new(view.title, "notice.html") };
    layout.render(&view.frame, context! { title => view.title, text => view.text })
}
