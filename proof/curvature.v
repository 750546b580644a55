(** Steps 2 and 3, and fact 1: what the minimum of an imitation loss at z = y says of its derivatives there.

    The gradient of the loss in the outputs vanishes at z = y. Hence, along the diagonal, its derivative in the
    outputs and its derivative in the labels cancel: the curvature M = - d2 LS / dy dz is also d2 LS / dz2. The second
    derivative of a function at a minimum is symmetric and positive semi-definite, and therefore M is. *)

From mathcomp Require Import all_ssreflect all_algebra ring.
From mathcomp.classical Require Import boolp classical_sets functions.
From mathcomp.analysis Require Import reals signed topology prodnormedzmodule normedtype landau derive.
From Subliminal Require Import statement calculus.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

(** ** First and second derivatives at a local minimum *)
Section LocalMinimum.
Context {R : realType} {n : nat}.
Variables (F : 'rV[R]_n.+1 -> R) (a : 'rV[R]_n.+1).
Hypothesis F_differentiable : forall z, differentiable F z.
Implicit Types u v : 'rV[R]_n.+1.

Local Notation H := (jacobian (grad F) a).

Lemma near_small_eps (P : 'rV[R]_n.+1 -> Prop) u :
  (\forall z \near a, P z) -> small_eps (fun t => P (a + t *: u)).
Proof.
move=> /nbhs_ballP[e /= e0 He]; have u1 : 0 < `|u| + 1 by rewrite ltr_paddl.
exists (e / (`|u| + 1)) => [|t t0]; first by rewrite divr_gt0.
rewrite ltr_pdivl_mulr// => te; apply: He.
rewrite -ball_normE /ball_/= opprD addNKr normrN normrZ gtr0_norm//.
by rewrite (le_lt_trans _ te)// ler_pmul2l// ler_addl.
Qed.

Lemma minimum_not_decreasing u : (\forall z \near a, F a <= F z) -> ~ small_eps (fun t => F (a + t *: u) < F a).
Proof.
move=> /(near_small_eps u) up down; have [e e0 He] := small_epsI up down.
have e2 : e / 2%:R < e by rewrite ltr_pdivr_mulr// ltr_pmulr// ltr1n.
have [e2e] := He (e / 2%:R) (divr_gt0 e0 (ltr0Sn _ _)) e2.
by move=> /lt_geF; rewrite e2e.
Qed.

Lemma minimum_gradient : (\forall z \near a, F a <= F z) -> grad F a = 0.
Proof.
move=> Fmin; apply: contrapT => /eqP g0; apply: (minimum_not_decreasing (u := - grad F a) Fmin).
have at0 : a + 0 *: - grad F a = a by rewrite scale0r addr0.
have dFd : is_diff (0 : R) (fun t => F (a + t *: - grad F a)) (fun h => h * - dot (grad F a) (grad F a)).
  apply: (is_diff_ext (is_diff_at (is_diff_line a _ 0) at0 (grad_diff (F_differentiable a)))) => // h.
  by rewrite dotZr dotNr.
have := small_eps_decrease dFd; rewrite oppr_lt0 dotvv_gt0// => /(_ isT).
by apply: small_epsW => t t0; rewrite scale0r addr0.
Qed.

Hypothesis gradient_differentiable : differentiable (grad F) a.

(** The gradient near a, in one direction u. *)
Lemma gradient_taylor u (c : R) : 0 < c -> exists2 e, 0 < e & forall h, `|h| < e ->
  `|dot (grad F (a + h)) u - dot (grad F a) u - dot (h *m H) u| <= c * `|h|.
Proof.
move=> c0.
have HE h : dot (h *m H) u = dot (u *m H^T) h by rewrite [RHS]dot_mul trmxK dotC.
have d : is_diff a (fun z => dot (grad F z) u) (dot (u *m H^T)).
  exact: (is_diff_ext (is_diff_o (is_diff_jacobian gradient_differentiable) (is_diff_dotl u _))).
have [e e0 He] := taylor_row_abs (@ex_diff _ _ _ _ _ _ _ d) c0.
by exists e => // h /He; rewrite (is_diff_grad d) HE.
Qed.

(** The second difference of F along u and v is [t ^+ 2 * dot (v *m H) u], up to a smaller term. *)
Let second_difference u v t := F (a + t *: u + t *: v) - F (a + t *: u) - F (a + t *: v) + F a.

Fact split_difference (g0 g1 g2 k l t : R) :
  (g1 - g2) * t - t ^+ 2 * k = t * ((g1 - g0 - (t * k + l)) - (g2 - g0 - l)).
Proof. by ring. Qed.

Lemma second_difference_taylor u v (c : R) : 0 < c -> small_eps (fun t =>
  `|second_difference u v t - t ^+ 2 * dot (v *m H) u| <= t ^+ 2 * (c * (2%:R * `|u| + `|v|))).
Proof.
move=> c0; have [e e0 He] := gradient_taylor u c0.
have k0 : 0 < `|u| + `|v| + 1 by rewrite ltr_paddl// addr_ge0.
exists (e / (`|u| + `|v| + 1)) => [|t t0]; first by rewrite divr_gt0.
rewrite ltr_pdivl_mulr// => te.
pose phi s := F (a + t *: v + s *: u) - F (a + s *: u).
pose dphi s := dot (grad F (a + t *: v + s *: u)) u - dot (grad F (a + s *: u)) u.
have [s [s0 st phiE]] : exists s, [/\ 0 < s, s < t & phi t - phi 0 = dphi s * t].
  apply: mean_value => // s _ _.
  by apply: is_deriveB; apply: is_derive_line.
have -> : second_difference u v t = dphi s * t.
  by rewrite -phiE /phi /second_difference !scale0r !addr0 [a + t *: u + _]addrAC opprD opprK addrA.
have vs : `|t *: v + s *: u| <= t * (`|u| + `|v|).
  rewrite (le_trans (ler_norm_add _ _))// !normrZ !gtr0_norm// mulrDr addrC ler_add2r.
  by rewrite ler_wpmul2r// ltW.
have us : `|s *: u| <= t * `|u| by rewrite normrZ gtr0_norm// ler_wpmul2r// ltW.
have small r : r <= t * (`|u| + `|v|) -> r < e.
  move=> /le_lt_trans; apply; rewrite (lt_trans _ te)// ltr_pmul2l//.
  by rewrite ltr_addl.
have H1 := He _ (small _ vs).
have H2 : `|dot (grad F (a + s *: u)) u - dot (grad F a) u - dot (s *: u *m H) u| <= c * `|s *: u|.
  by apply/He/small; rewrite (le_trans us)// ler_pmul2l// ler_addl.
have -> : dphi s * t - t ^+ 2 * dot (v *m H) u = t * (
    (dot (grad F (a + (t *: v + s *: u))) u - dot (grad F a) u - dot ((t *: v + s *: u) *m H) u) -
    (dot (grad F (a + s *: u)) u - dot (grad F a) u - dot (s *: u *m H) u)).
  by rewrite /dphi addrA mulmxDl dotDl -[t *: v *m H]scalemxAl dotZl; exact: split_difference.
rewrite normrM gtr0_norm// expr2 -mulrA ler_pmul2l// (le_trans (ler_norm_sub _ _))//.
rewrite (le_trans (ler_add H1 H2))// -mulrDr mulrCA ler_pmul2l//.
by rewrite (le_trans (ler_add vs us))// -mulrDr ler_pmul2l// addrAC mulr_natl mulr2n.
Qed.

(** Second derivatives commute. *)
Theorem hessian_symmetric : H^T = H.
Proof.
suff sym u v : dot (v *m H) u = dot (u *m H) v.
  apply/row_matrixP => i; rewrite !rowE; apply: dot_inj => u.
  by rewrite dot_mul trmxK dotC sym.
apply/eqP; rewrite -subr_eq0 -normr_eq0 eq_le normr_ge0 andbT leNgt; apply/negP => gap.
set k := 3%:R * (`|u| + `|v|) + 1.
have k0 : 0 < k by rewrite ltr_paddl// mulr_ge0// addr_ge0.
have c0 := divr_gt0 gap k0.
have [e e0 He] := small_epsI (second_difference_taylor u v c0) (second_difference_taylor v u c0).
have t0 : 0 < e / 2%:R by rewrite divr_gt0.
have /(He _ t0)[] : e / 2%:R < e by rewrite ltr_pdivr_mulr// ltr_pmulr// ltr1n.
move: (e / 2%:R) t0 => t t0.
have -> : second_difference v u t = second_difference u v t.
  by rewrite /second_difference [a + t *: v + _]addrAC [X in X + F a = _]addrAC.
set D := second_difference u v t; set x := dot _ u; set y := dot _ v => Dx Dy.
have t20 : 0 < t ^+ 2 by rewrite exprn_gt0.
have : `|t ^+ 2 * (x - y)| <= t ^+ 2 * (`|x - y| / k * (3%:R * (`|u| + `|v|))).
  have -> : t ^+ 2 * (x - y) = (D - t ^+ 2 * y) - (D - t ^+ 2 * x) by ring.
  rewrite (le_trans (ler_norm_sub _ _))// (le_trans (ler_add Dy Dx))// le_eqVlt; apply/orP; left; apply/eqP.
  by rewrite -/x -/y; set q := `|x - y| / k; ring.
by rewrite normrM gtr0_norm// ler_pmul2l// -mulrA ler_pmulr// mulrC ler_pdivl_mulr// mul1r ger_addl ler10.
Qed.

(** The second derivative is positive semi-definite at a minimum. *)
Theorem hessian_psd u : (\forall z \near a, F a <= F z) -> 0 <= dot (u *m H) u.
Proof.
move=> Fmin; rewrite leNgt; apply/negP => down; apply: (minimum_not_decreasing (u := u) Fmin).
have g0 := minimum_gradient Fmin.
have d : is_diff (0 : R) (fun t => dot (grad F (a + t *: u)) u) (fun h => h * dot (u *m H) u).
  have at0 : a + 0 *: u = a by rewrite scale0r addr0.
  have dg := is_diff_at (is_diff_line a u 0) at0 (is_diff_jacobian gradient_differentiable).
  apply: (is_diff_ext (is_diff_o dg (is_diff_dotl u _))) => // h /=.
  by rewrite -scalemxAl dotZl.
have [e e0 He] := small_eps_decrease d down; exists e => // t t0 te.
have [s [s0 st FE]] := mean_value t0 (fun s _ _ => is_derive_line (F_differentiable (a + s *: u))).
rewrite scale0r addr0 in FE; rewrite -subr_lt0 FE pmulr_llt0//.
by have := He s s0 (lt_trans st te); rewrite scale0r addr0 g0 dot0l.
Qed.

End LocalMinimum.

(** ** A symmetric positive semi-definite form vanishes only on its null space *)
Lemma psd_null (R : realType) n (M : 'M[R]_n) (v : 'rV[R]_n) :
  M^T = M -> (forall u, 0 <= dot (u *m M) u) -> dot (v *m M) v = 0 -> v *m M = 0.
Proof.
move=> symM psdM vMv0; apply: dotvv_eq0; set u := v *m M.
have uMv : dot (u *m M) v = dot u u by rewrite dot_mul symM.
have a0 := psdM u; have b0 := dotvv_ge0 u.
set a := dot (u *m M) u in a0 *; set b := dot u u in b0 uMv *.
have H t : 0 <= a * t ^+ 2 + 2%:R * t * b.
  have := psdM (v + t *: u).
  rewrite mulmxDl -scalemxAl -/u !dotDl !dotDr !dotZl !dotZr.
  rewrite dotC in vMv0; rewrite [dot u v]dotC vMv0 uMv -/a -/b.
  by congr (_ <= _); ring.
apply/eqP; rewrite eq_le b0 andbT leNgt; apply/negP => b_gt0.
have a1 : 0 < a + 1 by rewrite ltr_spaddr.
have := H (- b / (a + 1)); rewrite leNgt => /negP[].
have -> : a * (- b / (a + 1)) ^+ 2 + 2%:R * (- b / (a + 1)) * b =
  - ((a + 2%:R) * (b / (a + 1)) ^+ 2) by field; rewrite gt_eqF.
by rewrite oppr_lt0 mulr_gt0 ?exprn_gt0 ?divr_gt0// ltr_spaddr.
Qed.

(** ** The curvature of an imitation loss *)
Section Curvature.
Context {R : realType} {n : nat}.
Variable LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R.
Hypothesis HLS : imitation_loss LS.
Implicit Types z y u : 'rV[R]_n.+1.

Lemma is_diff_loss z y : is_diff z (LS ^~ y) (dot (loss_gradient LS z y)).
Proof. exact/grad_diff/(loss_differentiable HLS). Qed.

(** Step 2: where student and label agree there is nothing to learn. *)
Theorem step2_gradient_zero y : loss_gradient LS y y = 0.
Proof. exact: (minimum_gradient (fun z => loss_differentiable HLS z y) (loss_minimum HLS y)). Qed.

(** The gradient near (y, y): only the difference of outputs and labels counts, to first order. *)
Lemma is_diff_joint y :
  is_diff (y, y) (fun zy => loss_gradient LS zy.1 zy.2) (fun uv => (uv.1 - uv.2) *m curvature LS y).
Proof.
set g := fun zy => loss_gradient LS zy.1 zy.2.
have dg : is_diff (y, y) g ('d g (y, y)) by apply: DiffDef; first exact: (gradient_differentiable HLS y).
have diagonal u : 'd g (y, y) (u, u) = 0.
  have d := is_diff_o (is_diff_pair (is_diff_id y) (is_diff_id y)) dg.
  rewrite -[LHS]/((fun v => 'd g (y, y) (v, v)) u) -(@diff_val _ _ _ _ _ _ _ d).
  by rewrite (_ : (fun v => g (v, v)) = cst 0) ?diff_cst//; apply/funext => v; exact: step2_gradient_zero.
have labels u : 'd g (y, y) (0, u) = - (u *m curvature LS y).
  have d := is_diff_o (is_diff_pair (is_diff_const y y) (is_diff_id y)) dg.
  rewrite /curvature mulmxN opprK mul_rV_lin1 -[LHS]/((fun v => 'd g (y, y) (0, v)) u).
  by rewrite -(@diff_val _ _ _ _ _ _ _ d).
apply: (is_diff_ext dg) => // -[u v] /=.
have -> : (u, v) = (u, u) + (0, v - u) by apply: injective_projections; rewrite /= ?addr0// addrC subrK.
by rewrite linearD diagonal labels add0r -mulNmx opprB.
Qed.

Lemma is_diff_loss_gradient y : is_diff y (loss_gradient LS y) (fun u => - (u *m curvature LS y)).
Proof.
apply: (is_diff_ext (is_diff_o (is_diff_pair (is_diff_const y y) (is_diff_id y)) (is_diff_joint y))) => // u.
by rewrite /= sub0r mulNmx.
Qed.

(** Step 3, fact 1: the curvature is the second derivative in the outputs. *)
Lemma is_diff_outputs y : is_diff y ((loss_gradient LS)^~ y) (mulmx^~ (curvature LS y)).
Proof.
apply: (is_diff_ext (is_diff_o (is_diff_pair (is_diff_id y) (is_diff_const y y)) (is_diff_joint y))) => // u.
by rewrite /= subr0.
Qed.

Theorem step3_curvature_is_hessian y : curvature LS y = jacobian ((loss_gradient LS)^~ y) y.
Proof. exact/esym/jacobian_is_diff/is_diff_outputs. Qed.

Theorem step3_curvature_symmetric y : (curvature LS y)^T = curvature LS y.
Proof.
rewrite step3_curvature_is_hessian; have d := @ex_diff _ _ _ _ _ _ _ (is_diff_outputs y).
exact: (hessian_symmetric (fun z => loss_differentiable HLS z y) d).
Qed.

Theorem step3_curvature_psd y u : 0 <= dot (u *m curvature LS y) u.
Proof.
rewrite step3_curvature_is_hessian; have d := @ex_diff _ _ _ _ _ _ _ (is_diff_outputs y).
exact: (hessian_psd (fun z => loss_differentiable HLS z y) d u (loss_minimum HLS y)).
Qed.

(** Where the curvature does not see u, no gradient does (the heart of step 6). *)
Lemma curvature_null z y u : dot (u *m curvature LS z) u = 0 -> dot (loss_gradient LS z y) u = 0.
Proof.
move=> u0; apply: (null_space_orthogonal HLS); apply: psd_null u0; first exact: step3_curvature_symmetric.
exact: step3_curvature_psd.
Qed.

End Curvature.
(** From here on a failing unification must not unfold these. *)
#[global] Typeclasses Opaque loss_gradient curvature.
Global Opaque loss_gradient curvature.
