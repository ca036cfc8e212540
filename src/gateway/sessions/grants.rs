//! Grants that personal access tokens use outlive the session they came from.

use super::Sessions;
use crate::store::{StoreError, StoredSession, TokenRecord};

impl Sessions {
    /// A user's personal access tokens; none where the store keeps no records.
    pub(in crate::gateway) async fn tokens_of(&self, user: &str) -> Result<Vec<TokenRecord>, StoreError> {
        if self.store.keeps_records() { self.store.tokens_of(user).await } else { Ok(Vec::new()) }
    }

    /// Stores a new session's record before its grant is shared, where the user has tokens, which then use the new grant.
    /// True where they do.
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

    /// Whether personal access tokens still use the session's grant, which then outlives a sign-out. Where none does, the
    /// grant's record is deleted.
    pub(in crate::gateway) async fn release_grant(&self, stored: &StoredSession) -> Result<bool, StoreError> {
        if !stored.is_shared() {
            return Ok(false);
        }
        let used = !self.tokens_of(&stored.session.user.id).await?.is_empty();
        if !used {
            self.store.end_shared(stored).await?;
        }
        Ok(used)
    }
}
