(** Lemma 1 and Theorem 1 for inputs of any distribution: a measure, under the hypothesis [dominated] of statement.v.

    The steps are those of lemma1.v and theorem1.v, with an integral in the place of a finite sum. What is new:
    [dominated] lets the expected loss be differentiated under the integral, so that the student's step is minus the
    expected gradient (step 1); and the inputs' gradients over eps are dominated by one function, so that their
    expectation tends to that of their limits (step 4). *)

From mathcomp Require Import all_ssreflect all_algebra ring.
From mathcomp.classical Require Import boolp classical_sets functions mathcomp_extra.
From mathcomp.analysis Require Import reals constructive_ereal ereal signed topology normedtype landau derive.
From mathcomp.analysis Require Import sequences measure lebesgue_measure lebesgue_integral.
From Subliminal Require Import statement calculus curvature lemma1 expectation.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

(** ** A loss whose gradient grows linearly: by how much it changes (the mean value theorem) *)
Section LossDifference.
Context {R : realType} {n : nat}.
Variables (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) (C : R).
Hypothesis C_ge0 : 0 <= C.
Hypothesis LS_diff : forall z y, differentiable (LS ^~ y) z.
Hypothesis growth : forall z y, `|loss_gradient LS z y| <= C * `|z - y|.

Lemma loss_difference z0 z y :
  `|LS z y - LS z0 y| <= n.+1%:R * (C * (`|z0 - y| + `|z - z0|)) * `|z - z0|.
Proof.
have [t /andP[t0 t1]] := mean_value_segment (a := z0) (v := z - z0) (fun t _ _ => LS_diff (z0 + t *: (z - z0)) y).
rewrite /= [z0 + (z - z0)]addrC subrK => ->; rewrite -/(loss_gradient LS _ y).
rewrite (le_trans (norm_dot _ _))// ler_wpmul2r// ler_wpmul2l// (le_trans (growth _ _))// ler_wpmul2l//.
rewrite -addrA [t *: _ - y]addrC addrA (le_trans (ler_norm_add _ _))// ler_add2l.
by rewrite normrZ gtr0_norm// ler_pimull// ltW.
Qed.
End LossDifference.

(** ** What [dominated] gives *)
Section Domination.
Context {R : realType} d (X : measurableType d) (mu : {measure set X -> \bar R}) {p n : nat}.
Variables (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R).
Variables (theta0 dT : 'rV[R]_p.+1).
Hypothesis f_diff : forall x, differentiable (f x) theta0.
Hypothesis LS_diff : forall z y, differentiable (LS ^~ y) z.
Hypothesis dom : dominated mu f LS theta0 dT.

Local Notation label := (label f theta0 dT).

(** One input's imitation loss, and its gradient in the parameters. *)
Definition input_loss eps x theta := LS (f x theta) (label eps x).
Definition input_grad eps x : 'rV[R]_p.+1 := grad (input_loss eps x) theta0.

Lemma input_loss_diff eps x : differentiable (input_loss eps x) theta0.
Proof.
by have [] := is_diff_o (is_diff_jacobian (f_diff x)) (grad_diff (LS_diff (f x theta0) (label eps x))).
Qed.

(** The constants: a radius r, a Lipschitz constant K x >= 0 of each input, the constant C >= 0 of linear growth. *)
Lemma dominated_constants : exists r C (K : X -> R), [/\ 0 < r, 0 <= C,
  (forall x, 0 <= K x) /\ integrable mu (fun x => K x ^+ 2),
  forall x h, `|h| < r -> `|f x (theta0 + h) - f x theta0| <= K x * `|h| &
  forall z y, `|loss_gradient LS z y| <= C * `|z - y| ].
Proof.
have [K [iK]] := lipschitz dom; have [C growth] := linear_growth dom.
move=> /nbhs_ballP[r /= r0 lip]; exists r, `|C|, (fun x => `|K x|); split=> //.
- by split=> [//|]; under eq_fun do rewrite real_normK ?num_real//.
- move=> x h hr; have inball : ball theta0 r (theta0 + h).
    by rewrite -ball_normE /ball_/= opprD addrA subrr sub0r normrN.
  by have := lip _ inball x; rewrite addrAC subrr add0r => /le_trans; apply; rewrite ler_wpmul2r// ler_norm.
- by move=> z y; rewrite (le_trans (growth z y))// ler_wpmul2r// ler_norm.
Qed.

Section Constants.
Variables (r C : R) (K : X -> R).
Hypothesis r_gt0 : 0 < r.
Hypothesis C_ge0 : 0 <= C.
Hypothesis K_ge0 : forall x, 0 <= K x.
Hypothesis K_integrable : integrable mu (fun x => K x ^+ 2).
Hypothesis f_lipschitz : forall x h, `|h| < r -> `|f x (theta0 + h) - f x theta0| <= K x * `|h|.
Hypothesis growth : forall z y, `|loss_gradient LS z y| <= C * `|z - y|.

(** How far the teacher's step moves one input's outputs. *)
Local Notation moved eps x := (`|label eps x - f x theta0|).

(** How far a step h of the student moves one input's loss, and so how large its gradient can be. *)
Lemma input_loss_moves eps x h : `|h| < r -> `|input_loss eps x (theta0 + h) - input_loss eps x theta0| <=
  n.+1%:R * C * (moved eps x + K x * `|h|) * K x * `|h|.
Proof.
move=> /(f_lipschitz x) lip; rewrite (le_trans (loss_difference C_ge0 LS_diff growth _ _ _))//.
rewrite [`|_ - label _ _|]distrC.
by rewrite -!mulrA ler_wpmul2l// ler_wpmul2l// ler_pmul ?addr_ge0 ?ler_add2l.
Qed.

Lemma input_grad_le eps x i : `|input_grad eps x 0 i| <= n.+1%:R * C * moved eps x * K x.
Proof.
set c := n.+1%:R * C; have c0 : 0 <= c by rewrite mulr_ge0.
apply/ler_addgt0Pr => e e0; pose b := c * K x ^+ 2 + 1.
have b0 : 0 < b by rewrite ltr_spaddr// mulr_ge0// sqr_ge0.
apply: (@norm_grad_le _ _ _ _ _ (Order.min r (e / b))); first exact: input_loss_diff.
  by rewrite lt_minr r_gt0 divr_gt0.
move=> h; rewrite lt_minr => /andP[hr hb]; rewrite (le_trans (input_loss_moves eps x hr))// ler_wpmul2r//.
rewrite mulrDr mulrDl ler_add2l (_ : c * _ * _ = c * K x ^+ 2 * `|h|); last by ring.
by rewrite (le_trans (_ : _ <= b * `|h|)) ?ler_wpmul2r ?ler_addl// mulrC -ler_pdivl_mulr// ltW.
Qed.

(** The teacher's step is one such step: while it is short, it moves the outputs by at most [K x] times its length. *)
Lemma input_grad_dominated eps x i : 0 < eps -> eps * `|dT| < r ->
  `|input_grad eps x 0 i| <= eps * (n.+1%:R * C * `|dT| * K x ^+ 2).
Proof.
move=> e0 er; have hE : `|eps *: dT| = eps * `|dT| by rewrite normrZ gtr0_norm.
rewrite (le_trans (input_grad_le eps x i))//.
rewrite (_ : eps * _ = n.+1%:R * C * (K x * `|eps *: dT|) * K x); last by rewrite hE; ring.
by rewrite ler_wpmul2r// ler_wpmul2l ?mulr_ge0// f_lipschitz// hE.
Qed.

(** A Lipschitz constant of one input's loss, for steps no longer than 1; it has an expectation. *)
Definition dominating eps x := n.+1%:R * C * (moved eps x ^+ 2 + 2%:R * K x ^+ 2).

Lemma dominating_integrable eps : integrable mu (dominating eps).
Proof.
apply: integrable_scale; apply: integrable_add; last exact: integrable_scale.
exact: (square_integrable dom).
Qed.

Lemma input_loss_lipschitz eps x h : `|h| < Order.min r 1 ->
  `|input_loss eps x (theta0 + h) - input_loss eps x theta0| <= dominating eps x * `|h|.
Proof.
rewrite lt_minr => /andP[hr h1]; rewrite (le_trans (input_loss_moves eps x hr))// ler_wpmul2r//.
rewrite /dominating -mulrA ler_wpmul2l ?mulr_ge0//; set a := moved eps x; set b := K x.
have a0 : 0 <= a := normr_ge0 _; have b0 : 0 <= b := K_ge0 x.
apply: (@le_trans _ _ ((a + b) * b)); first by rewrite ler_wpmul2r// ler_add2l ler_pimulr// ltW.
rewrite -subr_ge0 (_ : _ - _ = ((a - b) ^+ 2 + a ^+ 2 + b ^+ 2) / 2%:R).
  by rewrite divr_ge0// !addr_ge0// sqr_ge0.
by field.
Qed.
End Constants.

Lemma input_loss_dominated eps : exists k r, [/\ integrable mu k, 0 < r & forall x h, `|h| < r ->
  `|input_loss eps x (theta0 + h) - input_loss eps x theta0| <= k x * `|h| ].
Proof.
have [r [C [K [r0 C0 [K0 iK] lip growth]]]] := dominated_constants.
exists (dominating C K eps), (Order.min r 1); split; first exact: dominating_integrable.
  by rewrite lt_minr r0 ltr01.
by move=> x h; exact: input_loss_lipschitz.
Qed.

Lemma integrable_input_grad eps i : integrable mu (fun x => input_grad eps x 0 i).
Proof.
have [k [r [ik r0 lip]]] := input_loss_dominated eps.
exact: integrable_grad (input_loss_diff eps) (measurable_loss dom eps) ik r0 lip i.
Qed.

(** The student's step is minus the expected gradient, at every eps. *)
Theorem d_student_expect eps :
  d_student (expect mu) f LS theta0 theta0 dT eps = - \row_i expect mu (fun x => input_grad eps x 0 i).
Proof.
have [k [r [ik r0 lip]]] := input_loss_dominated eps; congr (- _); apply: is_diff_grad.
exact: is_diff_expect (input_loss_diff eps) (measurable_loss dom eps) (integrable_loss dom eps) ik r0 lip.
Qed.

(** Near eps = 0 each input's gradient is at most eps times a function that has an expectation. *)
Lemma near_zero : exists k e1, [/\ integrable mu k, 0 < e1 &
  forall eps x i, 0 < eps -> eps < e1 -> `|input_grad eps x 0 i| <= eps * k x].
Proof.
have [r [C [K [r0 C0 [K0 iK] lip growth]]]] := dominated_constants.
have dT1 : 0 < `|dT| + 1 by rewrite ltr_spaddr.
exists (fun x => n.+1%:R * C * `|dT| * K x ^+ 2), (r / (`|dT| + 1)); split.
- exact: integrable_scale.
- by rewrite divr_gt0.
move=> eps x i e0; rewrite ltr_pdivl_mulr// => er; apply: (input_grad_dominated (r := r)) => //.
by rewrite (le_lt_trans _ er)// ler_wpmul2l ?(ltW e0)// ler_addl.
Qed.
End Domination.

(** ** The theorem's steps, for any distribution of inputs *)
Section AnyMeasure.
Context {R : realType} d (X : measurableType d) (mu : {measure set X -> \bar R}) {p n : nat}.
Variables (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R).
Variables (theta0 dT : 'rV[R]_p.+1).
Hypothesis f_diff : forall x, differentiable (f x) theta0.
Hypothesis HLS : imitation_loss LS.
Hypothesis dom : dominated mu f LS theta0 dT.

Let LS_diff := loss_differentiable HLS.
Local Notation label := (label f theta0 dT).
Local Notation velocity := (velocity f theta0 dT).
Local Notation g x eps := (loss_gradient LS (f x theta0) (label eps x)).
Local Notation M x := (curvature LS (f x theta0)).
Local Notation J x := (jacobian (f x) theta0).
Local Notation input_grad := (input_grad f LS theta0 dT).
Local Notation dS := (d_student (expect mu) f LS theta0 theta0 dT).
Local Notation vMv x := (dot (velocity x *m M x) (velocity x)).

(** The expectation of [J M J^T] times the teacher's step, and of [v M v]. *)
Definition input_product x : 'rV[R]_p.+1 := velocity x *m M x *m (J x)^T.
Definition expected_product : 'rV[R]_p.+1 := \row_i expect mu (fun x => input_product x 0 i).
Definition expected_alignment : R := expect mu (fun x => vMv x).

Lemma input_gradE eps x : input_grad eps x = g x eps *m (J x)^T.
Proof. by apply: is_diff_grad; exact: step1_input (f_diff x). Qed.

Lemma dot_input_grad eps x : dot (input_grad eps x) dT = dot (g x eps) (velocity x).
Proof. by rewrite input_gradE dot_mul trmxK velocityE. Qed.

Lemma dot_input_product x : dot (input_product x) dT = vMv x.
Proof. by rewrite [in LHS]dot_mul trmxK -velocityE. Qed.

(** The dot product of expected rows is the expected dot product. *)
Lemma dot_expect (h : X -> 'rV[R]_p.+1) v : (forall i, integrable mu (fun x => h x 0 i)) ->
  integrable mu (fun x => dot (h x) v) /\
  dot (\row_i expect mu (fun x => h x 0 i)) v = expect mu (fun x => dot (h x) v).
Proof.
move=> ih; have -> : (fun x => dot (h x) v) = (fun x => \sum_i v 0 i * h x 0 i) by apply/funext => x; rewrite dotC.
have iv i : integrable mu (fun x => v 0 i * h x 0 i) := integrable_scale _ (ih i).
split; first exact: integrable_sum.
by rewrite expect_sum// dotC; apply: eq_bigr => i _; rewrite mxE expect_scale.
Qed.

(** What the exact product is made of has an expectation, at every eps. *)
Lemma gv_integrable eps : integrable mu (fun x => dot (g x eps) (velocity x)).
Proof.
have [+ _] := dot_expect dT (integrable_input_grad f_diff LS_diff dom eps).
by under eq_fun do rewrite dot_input_grad.
Qed.

(** Step 1: what the two steps have to do with each other, exactly, at every eps. *)
Theorem step1_any_measure eps : dot (dS eps) dT = - expect mu (fun x => dot (g x eps) (velocity x)).
Proof.
rewrite (d_student_expect f_diff LS_diff dom) dotNl.
have [_ ->] := dot_expect dT (integrable_input_grad f_diff LS_diff dom eps).
by under eq_fun do rewrite dot_input_grad.
Qed.

(** Step 4, for one input and one parameter: the gradient follows the label. *)
Lemma is_diff_input_grad x i : is_diff (0 : R) (fun eps => input_grad eps x 0 i) (fun h => h * - input_product x 0 i).
Proof.
have dg := is_diff_o (is_diff_g dT HLS f_diff x) (is_diff_mulmxr (J x)^T (g x 0)).
apply: (is_diff_ext (is_diff_o dg (is_diff_coord (g x 0 *m (J x)^T) i))) => [eps|h] /=.
  by rewrite input_gradE.
by rewrite mulNmx -scalemxAl !mxE mulrN.
Qed.

Lemma input_grad0 x : input_grad 0 x = 0.
Proof. by rewrite input_gradE label0 (step2_gradient_zero HLS) mul0mx. Qed.

(** Step 4: along every sequence of positive eps that tends to 0, the student's step over eps tends to
    [expected_product]: the inputs' gradients over eps converge, and are dominated by one function. *)
Lemma d_student_cvg i : exists2 e1, 0 < e1 & forall u : nat -> R,
  (forall m, [/\ 0 < u m, u m < e1 & u m < m.+1%:R^-1]) ->
  integrable mu (fun x => input_product x 0 i) /\ (fun m => (u m)^-1 * dS (u m) 0 i) --> expected_product 0 i.
Proof.
have [k [e1 [ik e10 bound]]] := near_zero f_diff LS_diff dom.
exists e1 => // u hu; have u0 m : 0 < u m by have [] := hu m.
have ig m := integrable_input_grad f_diff LS_diff dom (u m) i.
have -> : (fun m => (u m)^-1 * dS (u m) 0 i) = (fun m => expect mu (fun x => - (u m)^-1 * input_grad (u m) x 0 i)).
  by apply/funext => m; rewrite expect_scale// (d_student_expect f_diff LS_diff dom) !mxE mulrN mulNr.
rewrite mxE; apply: (@expect_cvg _ _ _ mu (fun m x => - (u m)^-1 * input_grad (u m) x 0 i) _ k).
- by move=> m; exact: integrable_scale.
- exact: ik.
- move=> m x; rewrite normrM normrN gtr0_norm ?invr_gt0// mulrC ler_pdivr_mulr// mulrC.
  by apply: bound; have [] := hu m.
move=> x; apply/cvgrPdist_le => c c0.
have [e0 e00 He] := small_eps_taylor (is_diff_input_grad x i) c0.
near=> m; have ume0 : u m < e0.
  have [_ _ um] := hu m; rewrite (lt_trans um)//; near: m; exact: near_vanishing.
have := He (u m) (u0 m) ume0; rewrite input_grad0 [X in _ - X - _]mxE subr0 mulrN opprK => H.
rewrite (_ : _ - _ = (u m)^-1 * (input_grad (u m) x 0 i + u m * input_product x 0 i)); last first.
  by field; rewrite gt_eqF.
by rewrite normrM gtr0_norm ?invr_gt0// mulrC ler_pdivr_mulr.
Unshelve. all: by end_near. Qed.

Lemma input_product_integrable i : integrable mu (fun x => input_product x 0 i).
Proof.
have [e1 e10 /(_ (vanishing_step e1))] := d_student_cvg i.
by case=> // m; exact: vanishing_stepP.
Qed.

Lemma vMv_integrable : integrable mu (fun x => vMv x).
Proof.
have [+ _] := dot_expect dT input_product_integrable.
by under eq_fun do rewrite dot_input_product.
Qed.

(** Step 4: the whole vector, to first order (fact 2). *)
Theorem step4_any_measure c : 0 < c -> small_eps (fun eps => `|dS eps - eps *: expected_product| <= c * eps).
Proof.
move=> c0; have : forall i, small_eps (fun eps => `|dS eps 0 i - eps * expected_product 0 i| <= c * eps).
  move=> i; have [e1 e10 cvg] := d_student_cvg i; apply: contrapT => notsmall.
  have /choice[u Hu] : forall m : nat, exists e, [/\ 0 < e, e < e1, e < m.+1%:R^-1 &
      c * e < `|dS e 0 i - e * expected_product 0 i|].
    move=> m; apply: contrapT => none; apply: notsmall; exists (Order.min e1 m.+1%:R^-1).
      by rewrite lt_minr e10 invr_gt0 ltr0n.
    move=> e e0; rewrite lt_minr => /andP[ee1 em]; rewrite leNgt; apply/negP => big.
    by apply: none; exists e.
  have [|_ /cvgrPdist_lt /(_ c c0) /filter_ex[m]] := cvg u; first by move=> m; have [] := Hu m.
  have [um0 _ _ big] := Hu m; rewrite distrC ltNge => /negP[].
  rewrite (_ : _ - _ = (u m)^-1 * (dS (u m) 0 i - u m * expected_product 0 i)); last by field; rewrite gt_eqF.
  by rewrite normrM gtr0_norm ?invr_gt0// mulrC ler_pdivl_mulr// ltW.
move=> near_i.
have : small_eps (fun eps => forall i, `|dS eps 0 i - eps * expected_product 0 i| <= c * eps).
  have right : Filter (0 : R)^'+ by exact: within_filter.
  by apply/small_eps_near; apply: filter_forall => i; apply/small_eps_near.
apply: small_epsW => eps e0 near_all; apply: norm_le => [|i]; first by rewrite mulr_ge0 ?ltW.
by rewrite !mxE; have := near_all i; rewrite !mxE.
Qed.

(** Step 5: the product, to first order; the first order is not negative. *)
Lemma expected_alignmentE : expected_alignment = dot expected_product dT.
Proof.
have [_ ->] := dot_expect dT input_product_integrable.
by congr expect; apply/funext => x; rewrite dot_input_product.
Qed.

Theorem step5_any_measure c : 0 < c ->
  small_eps (fun eps => `|dot (dS eps) dT - eps * expected_alignment| <= c * eps).
Proof.
move=> c0; have n0 : 0 < p.+1%:R * `|dT| + 1 by rewrite ltr_spaddr// mulr_ge0.
have cn0 : 0 < c / (p.+1%:R * `|dT| + 1) by rewrite divr_gt0.
apply: small_epsW (step4_any_measure cn0) => eps e0 He.
rewrite expected_alignmentE -dotZl -dotBl (le_trans (norm_dot _ _))// mulrAC.
rewrite (le_trans (ler_wpmul2l _ He)) ?mulr_ge0// mulrA ler_wpmul2r ?(ltW e0)//.
by rewrite mulrCA ler_pimulr ?(ltW c0)// ler_pdivr_mulr// mul1r ler_addl.
Qed.

Lemma expected_alignment_ge0 : 0 <= expected_alignment.
Proof. by apply: expect_ge0 => x; exact: step3_curvature_psd. Qed.

(** Step 6: if the first order is 0, [v M v] vanishes almost everywhere, and the product is exactly 0 at every eps. *)
Theorem step6_any_measure : expected_alignment = 0 -> forall eps, dot (dS eps) dT = 0.
Proof.
move=> A0 eps; rewrite step1_any_measure (expect_vanishes vMv_integrable _ _ A0) ?oppr0//.
- exact: gv_integrable.
- by move=> x; exact: step3_curvature_psd.
- by move=> x; exact: step6_input.
Qed.

Lemma step5_positive_any_measure : 0 < expected_alignment ->
  small_eps (fun eps => eps * (expected_alignment / 2%:R) <= dot (dS eps) dT).
Proof.
move=> A0; have A20 : 0 < expected_alignment / 2%:R by rewrite divr_gt0.
apply: small_epsW (step5_any_measure A20) => eps e0; rewrite distrC => /(le_trans (ler_norm _)).
rewrite ler_subl_addl -ler_subl_addr; apply: le_trans.
by rewrite [X in X <= _](_ : _ = eps * expected_alignment - expected_alignment / 2%:R * eps)//; field.
Qed.

(** The lemma, with what decides: A = 0 or A > 0. *)
Theorem lemma_1_dichotomy_any_measure :
  (expected_alignment = 0 /\ forall eps, dot (dS eps) dT = 0) \/
  (0 < expected_alignment /\ small_eps (fun eps => 0 < dot (dS eps) dT)).
Proof.
have := expected_alignment_ge0; rewrite le_eqVlt => /predU1P[/esym A0|A0]; [left|right]; split=> //.
  exact: step6_any_measure.
apply: small_epsW (step5_positive_any_measure A0) => eps e0; apply: lt_le_trans.
by rewrite mulr_gt0// divr_gt0.
Qed.

(** Step 7: the trait loss falls, to first order by [alpha eps A]. *)
Section TraitLoss.
Variables (LT : 'rV[R]_p.+1 -> R) (alpha : R).
Hypothesis LT_diff : differentiable LT theta0.
Hypothesis alpha_gt0 : 0 < alpha.
Hypothesis dT_trait : dT = - grad LT theta0.

Theorem step7_any_measure c : 0 < c -> small_eps (fun eps =>
  `|LT (theta0 + alpha *: dS eps) - LT theta0 + alpha * (eps * expected_alignment)| <= c * eps).
Proof.
move=> c0; pose B := `|expected_product| + 1; have B0 : 0 < B by rewrite ltr_spaddr.
have aB : 0 < alpha * B by rewrite mulr_gt0.
have c1 : 0 < c / 2%:R / (alpha * B) by rewrite !divr_gt0.
have c2 : 0 < c / 2%:R / alpha by rewrite !divr_gt0.
have [e e0 taylor] := taylor_row_abs LT_diff c1.
have small := small_eps_lt (divr_gt0 e0 aB).
apply: small_epsW (small_epsI (small_epsI (step4_any_measure ltr01) (step5_any_measure c2)) small).
move=> eps eps0 [[step4 step5]]; rewrite ltr_pdivl_mulr// => epse.
have dB : `|alpha *: dS eps| <= alpha * B * eps.
  rewrite normrZ gtr0_norm// -mulrA ler_wpmul2l ?(ltW alpha_gt0)//.
  rewrite -[dS eps](subrK (eps *: expected_product)) (le_trans (ler_norm_add _ _))//.
  by rewrite normrZ gtr0_norm// mulrDl addrC [eps * _]mulrC ler_add2l.
have ae : `|alpha *: dS eps| < e by rewrite (le_lt_trans dB)// mulrC.
have trait : dot (grad LT theta0) (alpha *: dS eps) = - (alpha * dot (dS eps) dT).
  by rewrite dotZr dT_trait dotNr mulrN opprK dotC.
have -> : LT (theta0 + alpha *: dS eps) - LT theta0 + alpha * (eps * expected_alignment) =
    (LT (theta0 + alpha *: dS eps) - LT theta0 - dot (grad LT theta0) (alpha *: dS eps))
    - alpha * (dot (dS eps) dT - eps * expected_alignment) by rewrite trait; ring.
have half : c * eps = c / 2%:R * eps + c / 2%:R * eps by field.
rewrite (le_trans (ler_norm_sub _ _))// half; apply: ler_add.
  apply: (le_trans (taylor _ ae)); rewrite (le_trans (ler_wpmul2l (ltW c1) dB))//.
  by rewrite mulrA divfK ?gt_eqF.
rewrite normrM gtr0_norm// (le_trans (ler_wpmul2l (ltW alpha_gt0) step5))//.
by rewrite mulrA mulrCA divff ?gt_eqF// mulr1.
Qed.

(** The theorem, with what decides: the dichotomy of the lemma. *)
Theorem trait_or_orthogonal :
  (forall eps, dot (dS eps) dT = 0) \/ small_eps (fun eps => LT (theta0 + alpha *: dS eps) < LT theta0).
Proof.
have [[_ orthogonal]|[A0 _]] := lemma_1_dichotomy_any_measure; [by left|right].
have c0 : 0 < alpha * expected_alignment / 2%:R by rewrite divr_gt0// mulr_gt0.
apply: small_epsW (step7_any_measure c0) => eps e0 /(le_trans (ler_norm _)).
rewrite -subr_lt0 -ler_subr_addr => /le_lt_trans; apply.
rewrite (_ : _ - _ = - (eps * (alpha * expected_alignment / 2%:R))); last by field.
by rewrite oppr_lt0 mulr_gt0.
Qed.
End TraitLoss.
End AnyMeasure.

(** ** The two statements *)
Theorem lemma_1_any_measure : Lemma_1_any_measure.
Proof.
move=> R d X mu p n f LS theta0 dT f_diff HLS dom.
have [[_ orthogonal]|[_ positive]] := lemma_1_dichotomy_any_measure f_diff HLS dom.
  by exists 1 => // eps _ _; rewrite orthogonal.
by apply: small_epsW positive => eps _ /ltW.
Qed.

Theorem theorem_1_any_measure : Theorem_1_any_measure.
Proof.
move=> R d X mu p n f LS LT alpha theta0 f_diff HLS dom LT_diff alpha_gt0.
exact: trait_or_orthogonal.
Qed.
