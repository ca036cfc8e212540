//! A short message with nothing to click, at an address whose query held a code. It needs nothing but itself: the server that
//! shows it may end with it.

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
