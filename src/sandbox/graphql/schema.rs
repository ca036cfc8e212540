//! The part of Upwork's schema that the sandbox has, as a table.

/// A named object type.
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// A field of it.
pub(super) struct Field {
    pub(super) name: &'static str,
    /// The named type of its value or of its list's members: an object's name, else a scalar's.
    pub(super) kind: &'static str,
    pub(super) arguments: &'static [Argument],
}

/// An argument of it.
pub(super) struct Argument {
    pub(super) name: &'static str,
    pub(super) kind: ArgumentKind,
}

/// What an argument must be.
#[derive(Clone, Copy)]
pub(super) enum ArgumentKind {
    /// `Int`, from 0 on; may be left out.
    Count,
    /// `CreateProposalNoteInput!`: an object with a `text`.
    Note,
}

const fn field(name: &'static str, kind: &'static str) -> Field {
    Field { name, kind, arguments: &[] }
}

const TYPES: &[Type] = &[
    Type {
        name: "Query",
        fields: &[
            field("user", "User"),
            field("organization", "Organization"),
            field("companySelector", "CompanySelector"),
            Field {
                name: "marketplaceJobPostings",
                kind: "MarketplaceJobPostingConnection",
                arguments: &[Argument { name: "first", kind: ArgumentKind::Count }],
            },
            field("proposalNotes", "ProposalNote"),
        ],
    },
    Type {
        name: "Mutation",
        fields: &[Field {
            name: "createProposalNote",
            kind: "ProposalNote",
            arguments: &[Argument { name: "input", kind: ArgumentKind::Note }],
        }],
    },
    Type {
        name: "User",
        fields: &[
            field("id", "ID"),
            field("nid", "ID"),
            field("rid", "ID"),
            field("name", "String"),
            field("email", "String"),
            field("photoUrl", "String"),
        ],
    },
    Type {
        name: "Organization",
        fields: &[
            field("id", "ID"),
            field("rid", "ID"),
            field("legacyId", "ID"),
            field("name", "String"),
            field("type", "OrganizationType"),
            field("legacyType", "OrganizationLegacyType"),
        ],
    },
    Type { name: "CompanySelector", fields: &[field("items", "CompanySelectorItem")] },
    Type {
        name: "CompanySelectorItem",
        fields: &[
            field("title", "String"),
            field("organizationId", "ID"),
            field("organizationRid", "ID"),
            field("organizationType", "OrganizationType"),
            field("organizationLegacyType", "OrganizationLegacyType"),
            field("organizationEnterpriseType", "OrganizationEnterpriseType"),
            field("typeTitle", "String"),
        ],
    },
    Type {
        name: "MarketplaceJobPostingConnection",
        fields: &[field("totalCount", "Int"), field("edges", "MarketplaceJobPostingEdge")],
    },
    Type { name: "MarketplaceJobPostingEdge", fields: &[field("node", "MarketplaceJobPosting")] },
    Type {
        name: "MarketplaceJobPosting",
        fields: &[
            field("id", "ID"),
            field("title", "String"),
            field("description", "String"),
            field("budget", "Money"),
            field("createdDateTime", "DateTime"),
        ],
    },
    Type { name: "Money", fields: &[field("amount", "Float"), field("currency", "String")] },
    Type { name: "ProposalNote", fields: &[field("id", "ID"), field("text", "String")] },
];

/// The object type of this name; `None` for scalars and unknown names.
pub(super) fn object(name: &str) -> Option<&'static Type> {
    TYPES.iter().find(|known| known.name == name)
}

impl Type {
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        object(self.name)?.fields.iter().find(|field| field.name == name)
    }
}
