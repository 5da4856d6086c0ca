package group

import (
	"bytes"
	"fmt"
	"slices"
)

// checkShape tells whether a body could be right in some log: sizes, order,
// certificates and proofs, all that needs no other statement. Inside the package
// a Statement that exists has passed it.
func (b *body) checkShape() error {
	if b.Version != bodyVersion {
		return fmt.Errorf("statement version %d, this is version %d: %w", b.Version, bodyVersion, ErrMalformed)
	}
	kind := b.kind()
	var err error
	switch kind {
	case Genesis:
		err = b.checkGenesis()
	case Add:
		err = b.checkAdd()
	case Invite:
		err = b.Invite.check()
	case Join:
		err = b.checkJoin()
	case Remove:
		err = b.Remove.check()
	case SetRole:
		err = b.Role.check()
	case Rename:
		err = b.Rename.Name.check(true)
	case Revoke:
	case Epoch:
		err = b.Epoch.check()
	case Grant:
		err = checkKeys(b.Grant.Keys)
	default:
		err = fmt.Errorf("says nothing or several things: %w", ErrMalformed)
	}
	if err != nil {
		return fmt.Errorf("%s statement: %w", kind, err)
	}
	return b.checkPlace(kind)
}

// checkPlace judges how the body places itself in the graph and in its author's
// own sequence.
func (b *body) checkPlace(kind Kind) error {
	first := b.Seq == 1
	if (kind == Genesis) != (len(b.Parents) == 0) || (kind == Genesis) != b.Group.IsZero() ||
		len(b.Parents) > maxParents || !ascending(b.Parents, StatementID.compare) ||
		b.Seq == 0 || b.Seq > maxSeq || first != b.Prev.IsZero() ||
		((kind == Genesis || kind == Join) && !first) || (kind == Join && len(b.Parents) != 1) {
		return fmt.Errorf("%s statement: place in the graph: %w", kind, ErrMalformed)
	}
	return nil
}

func (b *body) checkGenesis() error {
	g := b.Genesis
	if (g.Purpose != Account && g.Purpose != Share) || len(g.Founders) == 0 || len(g.Founders) > maxTargets {
		return fmt.Errorf("founders or purpose: %w", ErrMalformed)
	}
	if g.Founders[0].Device.ID != b.Author || g.Founders[0].Paper || (g.Purpose == Account && !g.Account.IsZero()) {
		return fmt.Errorf("founder: %w", ErrMalformed)
	}
	if err := b.checkConsent(); err != nil {
		return err
	}
	seen := map[DeviceID]bool{}
	for _, f := range g.Founders {
		if seen[f.Device.ID] {
			return fmt.Errorf("founder twice: %w", ErrMalformed)
		}
		seen[f.Device.ID] = true
		if err := f.Device.device().check(); err != nil {
			return err
		}
		if err := f.Name.check(false); err != nil {
			return err
		}
	}
	if len(g.Epoch.Links) > 0 {
		return fmt.Errorf("first epoch has links: %w", ErrMalformed)
	}
	if err := g.Label.check(false); err != nil {
		return err
	}
	return g.Epoch.check()
}

// checkConsent: an account has one paper device that agreed to be it; a share
// has none.
func (b *body) checkConsent() error {
	g := b.Genesis
	var papers []DeviceID
	for _, f := range g.Founders {
		if f.Paper {
			papers = append(papers, f.Device.ID)
		}
	}
	if g.Purpose == Share && len(papers) == 0 && g.Consent == (Signature{}) {
		return nil
	}
	if g.Purpose != Account || len(papers) != 1 {
		return fmt.Errorf("paper device: %w", ErrMalformed)
	}
	if !papers[0].Verify(consentContext, g.consented(b.Author), g.Consent) {
		return fmt.Errorf("consent of the paper device: %w", ErrSignature)
	}
	return nil
}

// consented is what the paper device signs in a Genesis: all of it but that.
func (g genesisBody) consented(author DeviceID) []byte {
	g.Consent = Signature{}
	return slices.Concat(author[:], marshal(g))
}

func (a *addBody) paper() bool { return a.Consent != Signature{} }

// paperConsent is what a new paper device signs.
func paperConsent(group ID, author, paper DeviceID) []byte {
	return slices.Concat(group[:], author[:], paper[:])
}

func (b *body) checkAdd() error {
	a := b.Add
	if a.Device.ID == b.Author || !roleFits(a.Role, a.MayInvite) || (a.paper() && a.Role != Owner) {
		return fmt.Errorf("role or device: %w", ErrMalformed)
	}
	if a.paper() && !a.Device.ID.Verify(consentContext, paperConsent(b.Group, b.Author, a.Device.ID), a.Consent) {
		return fmt.Errorf("consent of the paper device: %w", ErrSignature)
	}
	if err := a.Name.check(true); err != nil {
		return err
	}
	return a.Device.device().check()
}

func (i *inviteBody) check() error {
	if !roleFits(i.Role, i.MayInvite) || i.Uses == 0 || i.Uses > maxUses || i.Expires <= 0 {
		return fmt.Errorf("role, uses or expiry: %w", ErrMalformed)
	}
	if len(i.Key) != keyBoxSize || i.Epoch.IsZero() || len(i.Preview) == 0 || len(i.Preview) > 2*maxNameBox {
		return fmt.Errorf("key or preview: %w", ErrMalformed)
	}
	if err := i.Names.check(true); err != nil {
		return err
	}
	return i.Public.device().check()
}

func (b *body) checkJoin() error {
	j := b.Join
	if j.Device.ID != b.Author || len(j.Name) == 0 || len(j.Name) > maxNameBox || len(b.Parents) != 1 {
		return fmt.Errorf("device or name: %w", ErrMalformed)
	}
	if err := j.Device.device().check(); err != nil {
		return err
	}
	if !j.Public.Verify(joinContext, j.proven(b.Group, b.Parents[0]), j.Proof) {
		return fmt.Errorf("proof of the code: %w", ErrSignature)
	}
	return nil
}

// proven is what the invite's key signs in a Join: all of it but the proof.
func (j joinBody) proven(group ID, invite StatementID) []byte {
	j.Proof = Signature{}
	return slices.Concat(group[:], invite[:], marshal(j))
}

func (r *removeBody) check() error {
	if len(r.Targets) == 0 || len(r.Targets) > maxTargets ||
		!ascending(r.Targets, func(a, b departure) int { return a.Device.compare(b.Device) }) {
		return fmt.Errorf("targets: %w", ErrMalformed)
	}
	for _, t := range r.Targets {
		if err := checkCuts(t.Cuts); err != nil {
			return err
		}
	}
	return nil
}

func (r *roleBody) check() error {
	if !roleFits(r.Role, r.MayInvite) || (r.Role != Viewer && len(r.Cuts) > 0) {
		return fmt.Errorf("role: %w", ErrMalformed)
	}
	return checkCuts(r.Cuts)
}

func (n sealedName) check(epoch bool) error {
	if len(n.Box) == 0 || len(n.Box) > maxNameBox || n.Epoch.IsZero() == epoch {
		return fmt.Errorf("sealed name: %w", ErrMalformed)
	}
	return nil
}

func (e *epochBody) check() error {
	if len(e.Links) > maxLinks || !ascending(e.Links, func(a, b link) int { return a.Epoch.compare(b.Epoch) }) {
		return fmt.Errorf("links: %w", ErrMalformed)
	}
	for _, l := range e.Links {
		if len(l.Box) != linkBoxSize {
			return fmt.Errorf("link: %w", ErrMalformed)
		}
	}
	return checkKeys(e.Keys)
}

func checkKeys(keys []keyBox) error {
	if len(keys) == 0 || len(keys) > MaxMembers || !ascending(keys, func(a, b keyBox) int { return a.To.compare(b.To) }) {
		return fmt.Errorf("sealed keys: %w", ErrMalformed)
	}
	for _, k := range keys {
		if len(k.Box) != keyBoxSize {
			return fmt.Errorf("sealed key of %d bytes: %w", len(k.Box), ErrMalformed)
		}
	}
	return nil
}

func checkCuts(cuts []Cut) error {
	if len(cuts) > maxCuts || !ascending(cuts, func(a, b Cut) int { return bytes.Compare(a.Replica[:], b.Replica[:]) }) {
		return fmt.Errorf("cuts: %w", ErrMalformed)
	}
	return nil
}

// roleFits: only editors need leave to invite.
func roleFits(r Role, mayInvite bool) bool { return r.valid() && (!mayInvite || r == Editor) }

func ascending[T any](s []T, compare func(a, b T) int) bool {
	for i := 1; i < len(s); i++ {
		if compare(s[i-1], s[i]) >= 0 {
			return false
		}
	}
	return true
}
