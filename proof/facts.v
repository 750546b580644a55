(** Further facts: what a student does that starts elsewhere (remark a), how much of the teacher's decrease it gets
    (fact 4), which step sizes are small enough (fact 5), zeros by structure (fact 6), and that the sign of a gradient
    is no substitute for the gradient (fact 10). *)

From mathcomp Require Import all_ssreflect all_algebra ring.
From mathcomp.classical Require Import boolp classical_sets functions.
From mathcomp.analysis Require Import reals signed topology prodnormedzmodule normedtype landau derive.
From Subliminal Require Import statement calculus curvature lemma1.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

(** A function of eps that tends to a row with a negative product with v has one itself, for all small eps. *)
Lemma small_eps_dot_lt0 (R : realType) p (h : R -> 'rV[R]_p.+1) (a v : 'rV[R]_p.+1) :
  h @ (0 : R) --> a -> dot a v < 0 -> small_eps (fun eps => dot (h eps) v < 0).
Proof.
move=> ha; rewrite -oppr_gt0 => gt0.
have dot_cont : {for a, continuous (fun d => dot d v)}.
  exact: differentiable_continuous (@ex_diff _ _ _ _ _ _ _ (is_diff_dotl v a)).
have lim : (fun eps => dot (h eps) v) @ (0 : R) --> dot a v by exact: (continuous_cvg _ dot_cont ha).
have /cvgrPdist_lt/(_ _ gt0)/nbhs_ballP[e0 /= e00 near0] := lim.
exists e0 => // eps eps0 epse; have /near0 : ball (0 : R) e0 eps by rewrite /ball/= sub0r normrN gtr0_norm.
by rewrite /= distrC => /(le_lt_trans (ler_norm _)); rewrite ltr_subl_addr addNr.
Qed.

(** ** Remark a: the student starts elsewhere *)
Section OtherStart.
Context {R : realType} {X : finType} {p n : nat}.
Variables (w : X -> R) (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R).
Variables start theta0 dT : 'rV[R]_p.+1.

Local Notation d_S := (d_student (weighted w) f LS start theta0 dT).

(** The step that imitates the teacher before any training, in which dT has no part. *)
Definition untrained_step : 'rV[R]_p.+1 :=
  - grad (fun theta => weighted w (fun x => LS (f x theta) (f x theta0))) start.

Theorem remark_a_no_trait : d_S 0 = untrained_step.
Proof. by congr (- grad _ _); apply/funext => theta; apply: eq_bigr => x _; rewrite label0. Qed.

Hypotheses (HLS : imitation_loss LS) (f_start : forall x, differentiable (f x) start).
Hypothesis f_continuous : forall x, {for theta0, continuous (f x)}.
Hypothesis gradient_continuous : forall x, {for f x theta0, continuous (loss_gradient LS (f x start))}.

(** To leading order the student imitates the untrained teacher. *)
Theorem remark_a_limit : d_S @ (0 : R) --> untrained_step.
Proof.
pose F x eps : 'rV[R]_p.+1 :=
  - w x *: (loss_gradient LS (f x start) (label f theta0 dT eps x) *m (jacobian (f x) start)^T).
have Fc x : F x @ (0 : R) --> F x 0.
  have line : {for (0 : R), continuous (fun eps => theta0 + eps *: dT)}.
    exact: differentiable_continuous (@ex_diff _ _ _ _ _ _ _ (is_diff_line theta0 dT 0)).
  have label_cont : {for (0 : R), continuous (label f theta0 dT ^~ x)}.
    by apply: (continuous_comp line); rewrite scale0r addr0.
  pose g eps := loss_gradient LS (f x start) (label f theta0 dT eps x); pose J := (jacobian (f x) start)^T.
  have gradient_cont : {for (0 : R), continuous g} by apply: (continuous_comp label_cont); rewrite label0.
  have gJ : {for (0 : R), continuous (mulmx^~ J \o g)}.
    apply: (continuous_comp gradient_cont).
    exact: differentiable_continuous (@ex_diff _ _ _ _ _ _ _ (is_diff_mulmxr J _)).
  exact: cvgZr gJ.
have dF eps : d_S eps = \sum_x F x eps.
  by rewrite d_studentE// -sumrN; apply: eq_bigr => x _; rewrite /F scaleNr.
rewrite -remark_a_no_trait dF (_ : d_S = fun eps => \sum_x F x eps); last exact/funext.
by move: F Fc {dF} => F Fc; exact: (@cvg_sum R _ R X (nbhs (0 : R)) _ (index_enum X) F (F^~ 0)).
Qed.

(** Where the step that imitates the untrained teacher points against dT, the student's does, for all small eps. *)
Theorem remark_a_against : dot untrained_step dT < 0 -> small_eps (fun eps => dot (d_S eps) dT < 0).
Proof. exact: small_eps_dot_lt0 remark_a_limit. Qed.

End OtherStart.

(** ** Fact 4: how much of the teacher's decrease the student gets *)
Section Ratio.
Context {R : realType}.

(** The quotient of two functions that vanish at 0 tends to the quotient of their derivatives there. *)
Lemma ratio_cvg (phi psi : R -> R) (a b : R) : is_diff (0 : R) phi (fun h => h * a) ->
  is_diff (0 : R) psi (fun h => h * b) -> phi 0 = 0 -> psi 0 = 0 -> b != 0 ->
  (fun eps => phi eps / psi eps) @ 0^' --> a / b.
Proof.
have quotient h c : is_diff (0 : R) h (fun t => t * c) -> h 0 = 0 -> (fun eps => eps^-1 * h eps) @ 0^' --> c.
  move=> /is_diff_is_derive[dh <-] h0.
  apply: (@cvg_trans _ ((fun t => t^-1 *: ((h \o shift 0) (t *: 1) - h 0)) @ 0^')); last exact: dh.
  by apply: near_eq_cvg; apply: nearW => t; rewrite h0 subr0 /= addr0 [_ *: 1]mulr1.
move=> /quotient dphi /quotient dpsi /dphi{}dphi /dpsi{}dpsi b0.
apply: (cvg_trans _ (cvgM dphi (cvgV b0 dpsi))); apply: near_eq_cvg.
near=> eps; have eps0 : eps != 0 by near: eps; exact: withinT.
by rewrite /= invfM invrK mulrACA mulVf// mul1r.
Unshelve. all: by end_near. Qed.
End Ratio.

Section TransferRatio.
Context {R : realType} {X : finType} {p n : nat}.
Variables (w : X -> R) (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R).
Variables (LT : 'rV[R]_p.+1 -> R) (theta0 : 'rV[R]_p.+1) (alpha : R).

Local Notation dT := (- grad LT theta0).
Local Notation d_S := (d_student (weighted w) f LS theta0 theta0 dT).
Local Notation G := (gauss_newton w f LS theta0).

Hypotheses (HLS : imitation_loss LS) (f_differentiable : forall x, differentiable (f x) theta0).
Hypotheses (LT_differentiable : differentiable LT theta0) (dT_neq0 : dT != 0).

(** The decrease of LT along a path that leaves theta0 in the direction v. *)
Lemma is_diff_decrease (path : R -> 'rV[R]_p.+1) v : path 0 = theta0 -> is_diff (0 : R) path (fun h => h *: v) ->
  is_diff (0 : R) (fun eps => LT theta0 - LT (path eps)) (fun h => h * dot v dT).
Proof.
move=> path0 dpath; have d := is_diff_at dpath path0 (grad_diff LT_differentiable).
apply: (is_diff_ext (is_diff_add (is_diff_const (LT theta0) 0) (is_diff_opp d))) => // h.
by rewrite add0r dotZr dotNr mulrN (dotC v).
Qed.

(** The student's decrease over the teacher's: a Rayleigh quotient of G, times the student's step size. *)
Theorem fact4_ratio :
  (fun eps => (LT theta0 - LT (theta0 + alpha *: d_S eps)) / (LT theta0 - LT (theta0 + eps *: dT))) @ 0^' -->
  alpha * dot (dT *m G) dT / dot dT dT.
Proof.
have dS : is_diff (0 : R) (fun eps => theta0 + alpha *: d_S eps) (fun h => h *: (alpha *: (dT *m G))).
  have d := is_diff_scale alpha (step4_first_order w dT HLS f_differentiable).
  apply: (is_diff_ext (is_diff_add (is_diff_const theta0 0) d)) => // h.
  by rewrite add0r !scalerA mulrC.
have S0 : theta0 + alpha *: d_S 0 = theta0 by rewrite d_student0// scaler0 addr0.
have T0 : theta0 + 0 *: dT = theta0 by rewrite scale0r addr0.
rewrite -dotZl; apply: (ratio_cvg (is_diff_decrease S0 dS) (is_diff_decrease T0 (is_diff_line theta0 dT 0))).
- by rewrite S0 subrr.
- by rewrite T0 subrr.
- by rewrite gt_eqF// dotvv_gt0.
Qed.

(** It is at most alpha times the largest eigenvalue of G, of which every lambda here is a bound. *)
Theorem fact4_bound lambda : (forall u, dot (u *m G) u <= lambda * dot u u) -> 0 <= alpha ->
  alpha * dot (dT *m G) dT / dot dT dT <= alpha * lambda.
Proof. by move=> bound alpha0; rewrite -mulrA ler_wpmul2l// ler_pdivr_mulr// dotvv_gt0. Qed.

(** The bound is attained where dT is an eigenvector. *)
Theorem fact4_attained lambda : dT *m G = lambda *: dT -> alpha * dot (dT *m G) dT / dot dT dT = alpha * lambda.
Proof. by move=> ->; rewrite dotZl mulrA mulfK// gt_eqF// dotvv_gt0. Qed.
End TransferRatio.

(** ** Fact 5: which step sizes are small enough *)
Section StepSize.
Context {R : realType} {p : nat}.
Variables (LT : 'rV[R]_p.+1 -> R) (theta0 d : 'rV[R]_p.+1) (alpha beta : R).

Local Notation dT := (- grad LT theta0).

Hypothesis LT_differentiable : forall t, 0 <= t -> t <= alpha -> differentiable LT (theta0 + t *: d).
Hypothesis smooth : forall t, 0 <= t -> t <= alpha ->
  dot (grad LT (theta0 + t *: d) - grad LT theta0) d <= beta * t * dot d d.

(** The descent lemma, on the segment alone. *)
Theorem fact5_decrease : 0 < alpha ->
  LT (theta0 + alpha *: d) <= LT theta0 - alpha * dot d dT + beta / 2%:R * alpha ^+ 2 * dot d d.
Proof.
move=> alpha0.
pose c := beta / 2%:R * dot d d.
pose phi t := LT (theta0 + t *: d) + (dot d dT * t - c * (t * t)).
pose dphi t := dot (grad LT (theta0 + t *: d)) d + (dot d dT - c * (t + t)).
have [t t0 ta|t [t0 ta E]] := @mean_value _ phi dphi alpha alpha0.
  have line := is_diff_real (is_derive_line (LT_differentiable t0 ta)).
  have quadratic := is_diff_opp (is_diff_mull c (is_diff_mul (is_diff_id t) (is_diff_id t))).
  have linear := is_diff_mull (dot d dT) (is_diff_id t).
  apply: is_diff_is_derive; apply: (is_diff_ext (is_diff_add line (is_diff_add linear quadratic))) => // h.
  by rewrite /dphi [RHS]mulrDr [X in _ = _ + X]mulrBr -mulrDl mulrA [h * dot d dT]mulrC [h * (c * _)]mulrC.
have : dphi t <= 0.
  have -> : dphi t = dot (grad LT (theta0 + t *: d) - grad LT theta0) d - beta * t * dot d d.
    rewrite /dphi dotBl dotNr (dotC d) addrA; congr (_ - _).
    by rewrite -mulr2n -[t *+ 2]mulr_natl /c mulrAC mulrA divfK ?pnatr_eq0// mulrAC.
  by rewrite subr_le0 smooth// ltW.
move=> /(mulr_le0_ge0)/(_ (ltW alpha0)); rewrite -E subr_le0.
rewrite /phi scale0r addr0 mulr0 mul0r mulr0 subrr addr0 -ler_subr_addr => /le_trans; apply.
by rewrite opprD opprK addrA [dot d dT * _]mulrC /c -expr2 [X in _ <= _ + X]mulrAC.
Qed.

(** For the student's step, [d = d_S eps], whose product with dT is positive by step 5, or for any other. *)
Theorem fact5_guaranteed_alpha : 0 < beta -> 0 < alpha -> alpha < 2%:R * dot d dT / (beta * dot d d) ->
  LT (theta0 + alpha *: d) < LT theta0.
Proof.
move=> beta0 alpha0; have [->|d0] := eqVneq d 0; first by rewrite !dot0l mulr0 mul0r ltNge (ltW alpha0).
rewrite ltr_pdivl_mulr ?mulr_gt0 ?dotvv_gt0// => lt; apply: le_lt_trans (fact5_decrease alpha0) _.
rewrite -addrA gtr_addl addrC subr_lt0; move: lt; move: (dot d d) (dot d dT) => D e lt.
have -> : beta / 2%:R * alpha ^+ 2 * D = alpha * (alpha * (beta * D) / 2%:R) by field.
by rewrite ltr_pmul2l// ltr_pdivr_mulr// [X in _ < X]mulrC.
Qed.
End StepSize.

(** ** Fact 6: zeros by structure *)
Section Disjoint.
Context {R : realType} {X : finType} {p n m : nat}.
Variables (w : X -> R) (f : X -> 'rV[R]_p.+1 -> 'rV[R]_n.+1) (chosen : 'I_m.+1 -> 'I_n.+1).
Variables (LS : 'rV[R]_m.+1 -> 'rV[R]_m.+1 -> R) (theta0 dT : 'rV[R]_p.+1).
Hypotheses (HLS : imitation_loss LS) (f_differentiable : forall x, differentiable (f x) theta0).

Local Notation select z := (\row_j z 0 (chosen j)).
Local Notation d_S := (d_student (weighted w) f (on_outputs chosen LS) theta0 theta0 dT).

Lemma is_diff_chosen_objective eps :
  is_diff theta0 (student_objective (weighted w) f (on_outputs chosen LS) theta0 dT eps)
    (fun u => \sum_x w x * dot (loss_gradient LS (select (f x theta0)) (select (label f theta0 dT eps x)))
                               (select ('d (f x) theta0 u))).
Proof.
have selected z : is_diff z (fun z : 'rV[R]_n.+1 => select z : 'rV[R]_m.+1) (fun z => select z).
  apply: is_diff_row => j; apply: (is_diff_ext (is_diff_coord z (chosen j))) => v; by rewrite mxE.
have df x : is_diff theta0 (f x) ('d (f x) theta0) by apply: DiffDef.
have d x := is_diff_o (is_diff_o (df x) (selected (f x theta0)))
  (grad_diff (loss_differentiable HLS _ (select (label f theta0 dT eps x)))).
exact: (is_diff_big (index_enum X) (fun x => is_diff_mull (w x) (d x))).
Qed.

(** If the teacher's step does not move, to first order, the outputs on which the student is trained (they may have no
    parameter in common), then the two steps are orthogonal at every eps, however far the labels move. *)
Theorem fact6_disjoint eps : (forall x j, velocity f theta0 dT x 0 (chosen j) = 0) -> dot (d_S eps) dT = 0.
Proof.
move=> still; rewrite /d_student dotNl -diff_grad.
have -> := @diff_val _ _ _ _ _ _ _ (is_diff_chosen_objective eps).
rewrite big1 ?oppr0// => x _; rewrite (_ : select ('d (f x) theta0 dT) = 0) ?dot0r ?mulr0//.
by apply/rowP => j; rewrite !mxE; exact: still.
Qed.

(** If it leaves their values as they are, the student does not move at all. *)
Theorem fact6_unmoved eps :
  (forall x j, label f theta0 dT eps x 0 (chosen j) = f x theta0 0 (chosen j)) -> d_S eps = 0.
Proof.
move=> still; apply/eqP; rewrite oppr_eq0; apply/eqP/is_diff_grad.
apply: (is_diff_ext (is_diff_chosen_objective eps)) => // u; rewrite dot0l big1// => x _.
rewrite (_ : select (label _ _ _ _ _) = select (f x theta0)); last by apply/rowP => j; rewrite !mxE still.
by rewrite (step2_gradient_zero HLS) dot0l mulr0.
Qed.
End Disjoint.

(** ** Two computed instances: what cannot be dropped *)
Section Instances.
Context {R : realType}.

(** One input, one output that is linear in the parameters, squared error. *)
Section OneOutput.
Context {p : nat}.
Variables (a theta0 dT : 'rV[R]_p.+1) (f : unit -> 'rV[R]_p.+1 -> 'rV[R]_1).
Hypothesis fE : forall theta, f tt theta 0 0 = dot theta a.

Lemma grad_one_output eps theta :
  grad (student_objective (weighted (fun=> 1)) f (squared_error (const_mx 1)) theta0 dT eps) theta =
  (2%:R * dot (theta - (theta0 + eps *: dT)) a) *: a.
Proof.
apply: is_diff_grad.
have d : is_diff theta (fun v => dot (v - (theta0 + eps *: dT)) a) (fun v => dot v a).
  have c := is_diff_const (- dot (theta0 + eps *: dT) a) theta.
  apply: (is_diff_ext (is_diff_add (is_diff_dotl a theta) c)) => v.
    by rewrite dotBl.
  by rewrite addr0.
apply: (is_diff_ext (is_diff_mul d d)) => v.
  rewrite /student_objective /weighted (big_pred1 tt) => [|[]//].
  by rewrite mul1r /squared_error big_ord1 mxE mul1r !fE expr2 dotBl.
by rewrite dotZl (dotC a) -mulr2n -mulr_natl mulrA.
Qed.
End OneOutput.

(** Remark a: one weight, which is the output. The teacher goes up from 0, down its trait loss; the student starts at
    1 and is drawn down. *)
Theorem remark_a_witness (alpha : R) (f := fun (_ : unit) (theta : 'rV[R]_1) => theta)
    (LT := fun theta : 'rV[R]_1 => - theta 0 0) (start := const_mx 1) :
  let d := d_student (weighted (fun=> 1)) f (squared_error (const_mx 1)) start 0 (- grad LT 0) in
  0 < alpha -> small_eps (fun eps => dot (d eps) (- grad LT 0) < 0 /\ LT start < LT (start + alpha *: d eps)).
Proof.
move=> /= alpha0.
have -> : - grad LT 0 = const_mx 1.
  apply/eqP; rewrite eqr_oppLR; apply/eqP/is_diff_grad.
  have d := is_diff_opp (is_diff_coord (0 : 'rV[R]_1) 0); apply: (is_diff_ext d) => // v.
  by rewrite dotNl /dot big_ord1 mxE mul1r.
exists 1 => // eps eps0 eps1; rewrite /d_student (@grad_one_output _ (const_mx 1)) => [|theta]; last first.
  by rewrite /dot big_ord1 mxE mulr1.
have one : dot (const_mx 1 : 'rV[R]_1) (const_mx 1) = 1 by rewrite /dot big_ord1 mxE mulr1.
rewrite add0r /LT !mxE dotNl dotBl !dotZl one !mulr1.
by split; [rewrite oppr_lt0 mulr_gt0// subr_gt0|rewrite ltr_opp2 gtr_addl pmulr_rlt0// oppr_lt0 mulr_gt0// subr_gt0].
Qed.

(** Fact 10: Adam's first step, without its epsilon, is minus the sign of each partial derivative. *)
Definition sign_step p (F : 'rV[R]_p.+1 -> R) theta : 'rV[R]_p.+1 := - \row_i Num.sg (grad F theta 0 i).

Definition row2 (a b : R) : 'rV[R]_2 := \row_i [:: a; b]`_i.

Let row2_0 a b : row2 a b 0 0 = a. Proof. by rewrite mxE. Qed.
Let row2_1 a b : row2 a b 0 1 = b. Proof. by rewrite mxE. Qed.

Let dot_row2 theta a b : dot theta (row2 a b) = theta 0 0 * a + theta 0 1 * b.
Proof.
rewrite /dot !big_ord_recl big_ord0 addr0 (_ : lift ord0 ord0 = 1) ?row2_1 ?row2_0//.
exact: val_inj.
Qed.

Let sign_step_row2 F theta c a b : grad F theta = c *: row2 a b ->
  sign_step F theta = row2 (- Num.sg (c * a)) (- Num.sg (c * b)).
Proof. by move=> gradE; apply/rowP => i; rewrite /sign_step gradE !mxE; case: i => [] [|[|//]]. Qed.

(** Two weights and one output. Whatever eps and alpha, the student's sign step takes the second weight the wrong
    way. *)
Section SignStep.
Variables (theta0 : 'rV[R]_2) (eps alpha : R).

Let f (_ : unit) (theta : 'rV[R]_2) : 'rV[R]_1 := const_mx (2%:R * theta 0 0 - theta 0 1).
Let LT (theta : 'rV[R]_2) := - theta 0 0 - 3%:R * theta 0 1.
Let dT := sign_step LT theta0.
Let objective := student_objective (weighted (fun=> 1)) f (squared_error (const_mx 1)) theta0 dT eps.

Theorem fact10_teacher_sign_step : dT = row2 1 1.
Proof.
rewrite /dT (@sign_step_row2 _ _ 1 (- 1) (- 3%:R)); first by rewrite !mul1r !sgrN sgr1 !opprK gtr0_sg.
rewrite scale1r; apply: is_diff_grad; apply: (is_diff_ext (is_diff_dotl (row2 (- 1) (- 3%:R)) theta0)) => v.
  by rewrite dot_row2 mulrN1 mulrN mulrC.
exact: dotC.
Qed.

Theorem fact10_student_sign_step : 0 < eps -> sign_step objective theta0 = row2 1 (- 1).
Proof.
move=> eps0; have fE theta : f tt theta 0 0 = dot theta (row2 2%:R (- 1)) by rewrite mxE dot_row2 mulrN1 mulrC.
have := grad_one_output theta0 dT fE eps theta0; rewrite -/objective => /sign_step_row2 ->.
rewrite opprD addrA subrr add0r dotNl dotZl fact10_teacher_sign_step dot_row2 row2_0 row2_1 !mul1r.
rewrite (_ : 2%:R - 1 = 1); last exact: addrK.
by rewrite mulr1 mulrN1 !mulrN mulNr opprK sgrN opprK !gtr0_sg ?mulr_gt0.
Qed.

Theorem fact10_sign_step_rises : 0 < eps ->
  LT (theta0 + alpha *: sign_step objective theta0) = LT theta0 + 2%:R * alpha.
Proof. by move=> /fact10_student_sign_step->; rewrite /LT !mxE /=; ring. Qed.
End SignStep.
End Instances.
