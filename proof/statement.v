(** Lemma 1 and Theorem 1 of arXiv 2507.14805 (section 6.1 and appendix C): what is proved, without the proofs.

    A network [f x theta] takes an input x to a row of outputs. Teacher and student start at [theta0]. The teacher
    takes a step [eps *: dT]; the student takes one gradient step of size [alpha] that imitates the moved teacher's
    outputs, on inputs of any distribution. R is the field of the real numbers, ['rV[R]_k] the rows of k numbers,
    [p.+1] and [n.+1] the numbers of parameters and of outputs: one at least of each.

    The last seven definitions are the statements; theorem1.v, instances.v and any_measure.v prove them. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp.classical Require Import boolp classical_sets functions.
From mathcomp.analysis Require Import reals signed constructive_ereal ereal topology prodnormedzmodule normedtype.
From mathcomp.analysis Require Import landau derive sequences exp measure lebesgue_measure lebesgue_integral.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

Section Definitions.
Context {R : realType}.
Definition dot k (u v : 'rV[R]_k) : R := \sum_i u 0 i * v 0 i.

(** The gradient: the partial derivatives of F at a. ['d F a] is the Frechet derivative. *)
Definition grad p (F : 'rV[R]_p.+1 -> R) a : 'rV[R]_p.+1 := \row_i 'd F a (delta_mx 0 i).

(** "For all sufficiently small eps > 0". *)
Definition small_eps (P : R -> Prop) := exists2 e0, 0 < e0 & forall eps, 0 < eps -> eps < e0 -> P eps.

(** ** The imitation loss L_S(z, y) of the student's outputs z against labels y *)
Section Loss.
Context {n : nat}.
Implicit Types (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) (z y u : 'rV[R]_n.+1).

Definition loss_gradient LS z y : 'rV[R]_n.+1 := grad (LS ^~ y) z.

(** M(y) = - d2 LS / dy dz at z = y. (A vector times M is a row times a matrix: [u *m M].) *)
Definition curvature LS y : 'M[R]_n.+1 := - jacobian (loss_gradient LS y) y.

(** What the paper asks of LS (remark b). That M is symmetric and positive semi-definite follows: curvature.v. *)
Record imitation_loss LS : Prop := ImitationLoss {
  loss_differentiable : forall z y, differentiable (LS ^~ y) z;
  gradient_differentiable : forall y, differentiable (fun zy => loss_gradient LS zy.1 zy.2) (y, y);
  loss_minimum : forall y, \forall z \near y, LS y y <= LS z y;
  null_space_orthogonal : forall z y u, u *m curvature LS z = 0 -> dot (loss_gradient LS z y) u = 0 }.

(** The paper's two losses, and the second as a divergence; a weight of 0 leaves an output out. *)
Definition squared_error (c : 'rV[R]_n.+1) z y : R := \sum_i c 0 i * (z 0 i - y 0 i) ^+ 2.
Definition softmax z : 'rV[R]_n.+1 := \row_i (expR (z 0 i) / \sum_j expR (z 0 j)).
Definition cross_entropy z y : R := - \sum_i softmax y 0 i * ln (softmax z 0 i).
Definition kl z y : R := \sum_i softmax y 0 i * (ln (softmax y 0 i) - ln (softmax z 0 i)).
End Loss.

(** Any loss on chosen outputs alone, such as the auxiliary logits. *)
Definition on_outputs n m (chosen : 'I_m.+1 -> 'I_n.+1) (LS : 'rV[R]_m.+1 -> 'rV[R]_m.+1 -> R) (z y : 'rV[R]_n.+1) :=
  LS (\row_j z 0 (chosen j)) (\row_j y 0 (chosen j)).

(** ** The two updates, under an expectation E over the inputs *)
Section Updates.
Context {X : Type} {p n : nat}.
Variables (E : (X -> R) -> R) (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R).

Definition label theta0 dT (eps : R) x := f x (theta0 + eps *: dT).
Definition student_objective theta0 dT eps theta := E (fun x => LS (f x theta) (label theta0 dT eps x)).

(** [start] is where the student starts; the theorem has it at [theta0], the teacher's own start. *)
Definition d_student start theta0 dT eps : 'rV[R]_p.+1 := - grad (student_objective theta0 dT eps) start.

(** The conclusions. *)
Definition never_against theta0 dT := small_eps (fun eps => 0 <= dot (d_student theta0 theta0 dT eps) dT).
Definition orthogonal_or_transfer LT alpha theta0 := let d := d_student theta0 theta0 (- grad LT theta0) in
  (forall eps, dot (d eps) (- grad LT theta0) = 0) \/ small_eps (fun eps => LT (theta0 + alpha *: d eps) < LT theta0).
End Updates.
(** ** Two kinds of distribution: finitely many weighted inputs, and any measure *)
Definition weighted (X : finType) (w : X -> R) h : R := \sum_x w x * h x.
Section Measure.
Context d (X : measurableType d) (mu : {measure set X -> \bar R}).
Definition integrable (h : X -> R) := mu.-integrable setT (EFin \o h).
Definition expect (h : X -> R) : R := fine (\int[mu]_x (h x)%:E).

(** When the expectation may be differentiated under the integral: near theta0 the outputs move by at most K x times as
    much as theta, K square-integrable; the teacher's step moves them by what is square-integrable; the loss has an
    expectation, and its gradient grows no faster than the distance. *)
Record dominated p n (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) LS theta0 dT : Prop := Dominated {
  lipschitz : exists K : X -> R, integrable (fun x => K x ^+ 2) /\
    \forall theta \near theta0, forall x, `|f x theta - f x theta0| <= K x * `|theta - theta0|;
  square_integrable : forall eps, integrable (fun x => `|label f theta0 dT eps x - f x theta0| ^+ 2);
  measurable_loss : forall eps theta, measurable_fun setT (fun x => LS (f x theta) (label f theta0 dT eps x));
  integrable_loss : forall eps, integrable (fun x => LS (f x theta0) (label f theta0 dT eps x));
  linear_growth : exists C, forall z y, `|loss_gradient LS z y| <= C * `|z - y| }.
End Measure.
End Definitions.
(** ** The statements *)
Definition Lemma_1 : Prop := forall (R : realType) (X : finType) (p n : nat) (w : X -> R) f LS theta0 dT,
  (forall x, 0 <= w x) -> (forall x, differentiable (f x) theta0) -> imitation_loss LS ->
  @never_against R X p n (weighted w) f LS theta0 dT.

Definition Theorem_1 : Prop := forall (R : realType) (X : finType) (p n : nat) (w : X -> R) f LS LT alpha theta0,
  (forall x, 0 <= w x) -> (forall x, differentiable (f x) theta0) -> imitation_loss LS ->
  differentiable LT theta0 -> 0 < alpha -> @orthogonal_or_transfer R X p n (weighted w) f LS LT alpha theta0.

Definition Lemma_1_any_measure : Prop := forall (R : realType) d (X : measurableType d) mu p n
  (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) LS theta0 dT,
  (forall x, differentiable (f x) theta0) -> imitation_loss LS -> dominated mu f LS theta0 dT ->
  @never_against R X p n (expect mu) f LS theta0 dT.

Definition Theorem_1_any_measure : Prop :=
  forall (R : realType) d (X : measurableType d) mu p n (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) LS LT alpha theta0,
  (forall x, differentiable (f x) theta0) -> imitation_loss LS -> dominated mu f LS theta0 (- grad LT theta0) ->
  differentiable LT theta0 -> 0 < alpha -> @orthogonal_or_transfer R X p n (expect mu) f LS LT alpha theta0.

(** The hypotheses on the loss hold for what the paper names. *)
Definition Squared_error_serves : Prop := forall (R : realType) n (c : 'rV[R]_n.+1),
  (forall i, 0 <= c 0 i) -> imitation_loss (squared_error c).
Definition Softmax_serves : Prop := forall (R : realType) n,
  imitation_loss (@cross_entropy R n) /\ imitation_loss (@kl R n).
Definition Chosen_outputs_serve : Prop := forall (R : realType) n m (chosen : 'I_m.+1 -> 'I_n.+1) LS,
  @imitation_loss R m LS -> imitation_loss (on_outputs chosen LS).
