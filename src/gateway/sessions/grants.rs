//! Grants that personal access tokens use outlive the session they came from.

use super::Sessions;
use crate::store::{StoreError, StoredSession, TokenRecord};

/// Who uses a grant besides a session that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum GrantUse {
    None,
    Tokens,
    /// Sessions of other browsers.
    Sessions,
}

impl Sessions {
    /// A user's personal access tokens; empty if the store keeps no records.
    pub(in crate::gateway) async fn tokens_of(&self, user: &str) -> Result<Vec<TokenRecord>, StoreError> {
        if self.store.keeps_records() { self.store.tokens_of(user).await } else { Ok(Vec::new()) }
    }

    /// If the user has tokens, stores a new session's record and lets the tokens use the new grant. True if the user
    /// has any.
    pub(in crate::gateway) async fn store_for_tokens(
        &self,
        stored: StoredSession,
    ) -> Result<(StoredSession, bool), StoreError> {
        let used =
            stored.session.tokens.refresh.is_some() && !self.tokens_of(&stored.session.user.id).await?.is_empty();
        if !used {
            return Ok((stored, false));
        }
        Ok((self.store.save_record(&stored, self.expires_at(&stored.session)).await?, true))
    }

    /// Who still uses the grant of a session that has ended. Such a grant outlives the sign-out; otherwise its record
    /// is deleted.
    pub(in crate::gateway) async fn release_grant(&self, ended: &StoredSession) -> Result<GrantUse, StoreError> {
        if ended.is_shared() && !self.tokens_of(&ended.session.user.id).await?.is_empty() {
            return Ok(GrantUse::Tokens);
        }
        Ok(if self.store.release_shared(ended).await? { GrantUse::Sessions } else { GrantUse::None })
    }
}
