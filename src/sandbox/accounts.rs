//! The users and organizations of the sandbox. Their ids never change, so tests and examples may name them.

#[derive(Debug)]
pub(super) struct Account {
    /// `user.id`.
    pub(super) id: &'static str,
    /// `user.nid`: the login name.
    pub(super) nid: &'static str,
    /// `user.rid`: the legacy reference.
    pub(super) rid: &'static str,
    pub(super) first_name: &'static str,
    pub(super) last_name: &'static str,
    pub(super) email: &'static str,
    /// As the consent page shows it.
    pub(super) role: &'static str,
    /// Works for clients (`provider` in the older API); if not, they hire (`buyer`).
    pub(super) provider: bool,
    /// The first is their own, the default tenant.
    pub(super) organizations: &'static [&'static Organization],
}

impl Account {
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name)
    }

    pub(super) fn photo_url(&self) -> String {
        format!("https://www.upwork.com/profile-portraits/{}", self.nid)
    }

    /// The organization a call acts for: the tenant or their own; `None` if they are not a member of the tenant.
    pub(super) fn organization(&self, tenant: Option<&str>) -> Option<&'static Organization> {
        match tenant {
            None => self.organizations.first().copied(),
            Some(id) => self.organizations.iter().find(|organization| organization.id == id).copied(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Organization {
    pub(super) id: &'static str,
    pub(super) rid: &'static str,
    pub(super) legacy_id: &'static str,
    pub(super) name: &'static str,
    /// `BUSINESS` or `SOLE_PROPRIETOR`.
    pub(super) kind: &'static str,
    /// `CLIENT` or `VENDOR`.
    pub(super) legacy_kind: &'static str,
    pub(super) enterprise_kind: &'static str,
    /// As the company selector shows it.
    pub(super) kind_title: &'static str,
}

static FREELANCER_ORGANIZATION: Organization = Organization {
    id: "1181921839933591553",
    rid: "2366359",
    legacy_id: "foofreelancer_org",
    name: "Foo Bar",
    kind: "SOLE_PROPRIETOR",
    legacy_kind: "VENDOR",
    enterprise_kind: "NONE",
    kind_title: "Freelancer",
};

static AGENCY_ORGANIZATION: Organization = Organization {
    id: "1282032950044702664",
    rid: "3477470",
    legacy_id: "bazagency_org",
    name: "Baz & Partners",
    kind: "BUSINESS",
    legacy_kind: "VENDOR",
    enterprise_kind: "NONE",
    kind_title: "Agency",
};

static CLIENT_ORGANIZATION: Organization = Organization {
    id: "1383143061155813775",
    rid: "4588581",
    legacy_id: "quxclient_org",
    name: "Qux Żółw Ltd.",
    kind: "BUSINESS",
    legacy_kind: "CLIENT",
    enterprise_kind: "NONE",
    kind_title: "Client",
};

static ENTERPRISE_ORGANIZATION: Organization = Organization {
    id: "1484254172266924886",
    rid: "5699692",
    legacy_id: "corge_org",
    name: "Corge Enterprise",
    kind: "BUSINESS",
    legacy_kind: "CLIENT",
    enterprise_kind: "ENTERPRISE",
    kind_title: "Client",
};

/// The accounts on the consent page. The freelancer also works for the agency, and so can switch tenants.
pub(super) static ACCOUNTS: [Account; 3] = [
    Account {
        id: "1181921839933591552",
        nid: "foofreelancer",
        rid: "2366358",
        first_name: "Foo",
        last_name: "Bar",
        email: "foo@example.com",
        role: "freelancer",
        provider: true,
        organizations: &[&FREELANCER_ORGANIZATION, &AGENCY_ORGANIZATION],
    },
    Account {
        id: "1282032950044702663",
        nid: "bazagency",
        rid: "3477469",
        first_name: "Baz",
        last_name: "Quux",
        email: "baz@example.com",
        role: "agency",
        provider: true,
        organizations: &[&AGENCY_ORGANIZATION],
    },
    Account {
        id: "1383143061155813774",
        nid: "quxclient",
        rid: "4588580",
        first_name: "Zoë",
        last_name: "Żółw",
        email: "zoe@example.com",
        role: "client",
        provider: false,
        organizations: &[&CLIENT_ORGANIZATION],
    },
];

/// The account that a `client_credentials` token acts for.
pub(super) static SERVICE: Account = Account {
    id: "1484254172266924885",
    nid: "corgeservice",
    rid: "5699691",
    first_name: "Corge",
    last_name: "Service",
    email: "service@example.com",
    role: "service account",
    provider: false,
    organizations: &[&ENTERPRISE_ORGANIZATION],
};

pub(super) fn find(id: &str) -> Option<&'static Account> {
    ACCOUNTS.iter().chain(std::iter::once(&SERVICE)).find(|account| account.id == id)
}
