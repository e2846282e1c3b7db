package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

const (
	valueKey    = "value"
	counterName = "counter"
	// lastName is the object that an owner makes when it has done all else; who watches is done with it.
	lastName = "last"
	// rootCA is what the apiserver's own controllers put into each namespace, where they run.
	rootCA = "kube-root-ca.crt"
)

// An owner is the only client that writes in its namespace, so it knows what every answer has to be.
type owner struct {
	t    *testing.T
	maps typedcorev1.ConfigMapInterface
	rand *rand.Rand
	done *atomic.Int64 // requests that were answered, of all owners
	// known is what was answered last of each object that is there. One whose write was not answered is doubtful, until a write that
	// demands a version is answered.
	known    map[string]object
	doubtful map[string]bool
	// versions are those of all objects that were written and answered.
	versions map[string]bool
	writes   int
	shared   *counter
}

// A counter is an object to which all owners add, each with the version that it has read.
type counter struct {
	maps            typedcorev1.ConfigMapInterface
	added, doubtful atomic.Int64 // what was answered, and what may have been carried out besides
}

// newCounter makes the object, with the number 0.
func newCounter(t *testing.T, client *typedcorev1.CoreV1Client) *counter {
	t.Helper()
	c := &counter{maps: client.ConfigMaps(metav1.NamespaceDefault)}
	if _, err := c.maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: counterName}, Data: map[string]string{valueKey: "0"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// read returns the object and its number.
func (c *counter) read(ctx context.Context) (*corev1.ConfigMap, int, error) {
	m, err := c.maps.Get(ctx, counterName, metav1.GetOptions{})
	if err != nil {
		return nil, 0, err
	}
	n, err := strconv.Atoi(m.Data[valueKey])
	return m, n, err
}

// add adds one, unless somebody else was faster.
func (c *counter) add(ctx context.Context) {
	m, n, err := c.read(ctx)
	if err != nil {
		return
	}
	m.Data[valueKey] = strconv.Itoa(n + 1)
	switch _, err := c.maps.Update(ctx, m, metav1.UpdateOptions{}); {
	case err == nil:
		c.added.Add(1)
	case !errors.IsConflict(err):
		c.doubtful.Add(1)
	}
}

type object struct{ version, value string }

func objectOf(m *corev1.ConfigMap) object { return object{m.ResourceVersion, m.Data[valueKey]} }

func newOwner(t *testing.T, client *typedcorev1.CoreV1Client, number int, shared *counter, done *atomic.Int64) *owner {
	t.Helper()
	namespace := fmt.Sprintf("owner-%d", number)
	if _, err := client.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return &owner{t: t, maps: client.ConfigMaps(namespace), rand: rand.New(rand.NewPCG(1, uint64(number))), done: done,
		known: map[string]object{}, doubtful: map[string]bool{}, versions: map[string]bool{}, shared: shared}
}

// work asks for one thing after another until told to stop, and then makes the last object.
func (o *owner) work(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			o.finish(ctx)
			return
		case <-ctx.Done():
			o.t.Error("an owner was not told to stop in time")
			return
		default:
			o.step(ctx)
		}
	}
}

func (o *owner) step(ctx context.Context) {
	name := fmt.Sprintf("map-%d", o.rand.IntN(40))
	was, there := o.known[name]
	switch dice := o.rand.IntN(20); {
	case o.doubtful[name]:
		o.lookUp(ctx, name)
	case dice == 0:
		o.list(ctx)
	case dice == 1:
		o.shared.add(ctx)
	case dice < 4:
		o.get(ctx, name, was, there)
	case !there:
		m, err := o.maps.Create(ctx, o.next(name, ""), metav1.CreateOptions{})
		o.wrote(name, m, err, errors.IsAlreadyExists, "is there, though it was deleted or never made")
	case dice < 14:
		m, err := o.maps.Update(ctx, o.next(name, was.version), metav1.UpdateOptions{})
		o.wrote(name, m, err, errors.IsConflict, "was changed by nobody and has another version")
	case dice < 16:
		if _, err := o.maps.Update(ctx, o.next(name, "1"), metav1.UpdateOptions{}); err == nil {
			o.t.Errorf("%s was replaced by who has seen another version", name)
		}
	default:
		err := o.maps.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &was.version}})
		if o.wrote(name, nil, err, errors.IsConflict, "was changed by nobody and cannot be deleted") {
			delete(o.known, name)
		}
	}
}

// next is an object that nobody has written before; some are large.
func (o *owner) next(name, version string) *corev1.ConfigMap {
	o.writes++
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version},
		Data: map[string]string{valueKey: fmt.Sprint(o.writes), "rest": strings.Repeat("x", o.rand.IntN(3000))}}
}

// wrote notes what became of a write, and says whether it was carried out. A refusal that says something untrue fails the test.
func (o *owner) wrote(name string, m *corev1.ConfigMap, err error, untrue func(error) bool, what string) bool {
	switch {
	case err == nil:
		if m != nil {
			o.note(m)
		}
		o.done.Add(1)
		return true
	case untrue(err), errors.IsNotFound(err):
		o.t.Errorf("%s %s: %v", name, what, err)
	}
	o.doubtful[name] = true
	return false
}

func (o *owner) note(m *corev1.ConfigMap) {
	o.known[m.Name] = objectOf(m)
	o.versions[m.ResourceVersion] = true
}

// lookUp ends a doubt: after a write that demands the version that is read, none that was not answered can be carried out any more.
func (o *owner) lookUp(ctx context.Context, name string) {
	m, err := o.maps.Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		m, err = o.maps.Update(ctx, o.next(name, m.ResourceVersion), metav1.UpdateOptions{})
	} else if errors.IsNotFound(err) {
		m, err = o.maps.Create(ctx, o.next(name, ""), metav1.CreateOptions{})
	}
	if err == nil {
		o.note(m)
		delete(o.doubtful, name)
	}
}

func (o *owner) get(ctx context.Context, name string, was object, there bool) {
	m, err := o.maps.Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil && (!there || objectOf(m) != was):
		o.t.Errorf("%s is %v, and should be %v (%v)", name, objectOf(m), was, there)
	case errors.IsNotFound(err) && there:
		o.t.Errorf("%s is gone, and should be %v", name, was)
	case err == nil || errors.IsNotFound(err):
		o.done.Add(1)
	}
}

// list reads all pages. A page that is not answered leaves the list unjudged.
func (o *owner) list(ctx context.Context) {
	got := map[string]object{}
	for token := ""; ; {
		page, err := o.maps.List(ctx, metav1.ListOptions{Limit: 7, Continue: token})
		if err != nil {
			return
		}
		for i := range page.Items {
			m := &page.Items[i]
			if _, twice := got[m.Name]; twice {
				o.t.Errorf("%s is twice in a list", m.Name)
			}
			got[m.Name] = objectOf(m)
		}
		if token = page.Continue; token == "" {
			break
		}
	}
	want := maps.Clone(o.known)
	for name := range o.doubtful {
		delete(want, name)
		delete(got, name)
	}
	delete(got, rootCA)
	if !maps.Equal(got, want) {
		o.t.Errorf("a list has %v, and should have %v", got, want)
	}
	o.done.Add(1)
}

// finish ends all doubts, makes the last object and looks at all once more.
func (o *owner) finish(ctx context.Context) {
	for len(o.doubtful) > 0 && ctx.Err() == nil {
		for name := range o.doubtful {
			o.lookUp(ctx, name)
		}
	}
	for o.known[lastName] == (object{}) && ctx.Err() == nil {
		o.lookUp(ctx, lastName)
	}
	o.list(ctx)
}
